"""`fer-edge fleet` at a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from fer_edge.cli.fleet import fleet as list_nodes
from fer_edge_device.config.settings import MqttSettings
from fer_edge_device.messages import Info, MessageFactory, Stats
from fer_edge_device.mqtt.maintenance import forget_node
from tests.device.brokers import TIMEOUT, Gate, Mosquitto, subscribing, wait_for
from tests.device.mqtt.helpers import MESSAGES, sending
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge_device.messages import CameraStatus, Message
    from tests.conftest import Cli

INFO = Info(version="0.9.0", model="edge", model_sha256="81c3f00a" * 8, labels=("a", "b"))


def stats(*, time: float = 0.0, temp_c: float | None = None, throttled: int | None = None, queued: int = 0) -> Stats:
    return Stats(
        time=time, fps=9.5, stages={}, skipped=0, dropped=0, temp_c=temp_c, throttled=throttled, rss_mb=1, queued=queued
    )


def retained(node: str, camera: CameraStatus, figures: Stats, *, online: bool = True) -> list[Message]:
    """Return what a broker keeps of a node."""
    messages = MessageFactory(node)
    return [
        messages.info(INFO),
        messages.camera(camera),
        messages.enabled(camera != "disabled"),
        messages.stats(figures),
        messages.availability("online" if online else "offline"),
    ]


def publish(port: int, messages: list[Message]) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("localhost", port)
    client.loop_start()
    for sent in [client.publish(message.topic, message.body(), 1, message.retain) for message in messages]:
        sent.wait_for_publish(TIMEOUT)
    client.disconnect()
    client.loop_stop()


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def test_lists_every_node_of_a_large_fleet(broker: Mosquitto, cli: Cli) -> None:
    now = time.time()
    fleet = [
        *retained("kitchen", "online", stats(time=now, temp_c=61.4, queued=3)),
        *retained("hall", "stalled", stats(time=now - 600, temp_c=80.0, throttled=4)),
        *retained("attic", "offline", stats(time=now)),
        *retained("nursery", "disabled", stats(time=now)),
        *retained("shed", "online", stats(time=now - 200_000), online=False),
        *retained("film", "online", stats(time=12.0)),  # seconds of a video
    ]
    fleet += [message for number in range(200) for message in retained(f"pi-{number:03}", "online", stats(time=now))]
    publish(broker.port, fleet)
    url = f"mqtt://localhost:{broker.port}"
    head, *rows, summary = cli("fleet", "--mqtt", url).stdout.splitlines()
    assert cells(head) == ["node", "state", "version", "model", "fps", "temperature", "waiting", "last seen"]
    table = {name: rest for name, *rest in map(cells, rows)}
    common = ["0.9.0", "edge-81c3f00a", "9.5"]
    assert table["kitchen"] == ["online", *common, "61 °C", "3", "now"]
    assert table["hall"] == ["camera stalled", *common, "80 °C (throttled)", "0", "10 min ago"]
    assert table["attic"] == ["no camera", *common, "-", "0", "now"]
    assert table["nursery"] == ["switched off", *common, "-", "0", "now"]
    assert table["shed"] == ["offline", *common, "-", "0", "2 d ago"]
    assert table["film"] == ["online", *common, "-", "0", "now"]
    assert [cells(row)[0] for row in rows] == sorted(table)
    assert summary == "206 nodes: 202 online, 1 camera stalled, 1 no camera, 1 offline, 1 switched off"
    reports = {report["node"]: report for report in json.loads(cli("fleet", "--mqtt", url, "--json").stdout)}
    assert len(reports) == 206
    assert reports["hall"] == {
        "node": "hall",
        "state": "camera stalled",
        "version": "0.9.0",
        "model": "edge-81c3f00a",
        "fps": 9.5,
        "temp_c": 80.0,
        "throttled": 4,
        "queued": 0,
        "dropped_events": 0,
        "last_seen": now - 600,
    }
    assert reports["film"]["last_seen"] is None


def test_a_node_keeps_its_last_figures_after_its_end(broker: Mosquitto, tmp_path: Path, cli: Cli) -> None:
    with sending(tmp_path, broker.port) as sink, subscribing(broker.port) as subscriber:
        sink.publish(MESSAGES.info(INFO), MESSAGES.stats(stats(time=time.time(), queued=2)))
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("stats")), "the stats")
    settings = MqttSettings(url=f"mqtt://localhost:{broker.port}")
    row = cells(cli("fleet", "--mqtt", settings.url).stdout.splitlines()[1])
    assert row == ["hall", "offline", "0.9.0", "edge-81c3f00a", "9.5", "-", "2", "now"]
    forget_node(settings, MESSAGES)
    message = cli("fleet", "--mqtt", settings.url, status=2).stderr
    assert message == (
        f"fer-edge: no node is known at {settings.url} (MQTT 5): check mqtt.topic_prefix, which is fer-edge, and"
        " whether this user may read fer-edge/#\n"
    )


def test_messages_of_other_programs_do_no_harm(broker: Mosquitto, cli: Cli) -> None:
    publish(broker.port, retained("hall", "online", stats(queued=5)))
    with subscribing(broker.port) as subscriber:
        for topic, payload in (
            ("fer-edge/hall/camera", "on fire"),
            ("fer-edge/hall/info", "{"),
            ("fer-edge/other/availability", "online"),
            ("fer-edge/other/stats", '{"time": "now"}'),
            ("fer-edge/other/info", '{"version": "\\u001b[31m", "model": "' + "m" * 9000 + '", "model_sha256": "0"}'),
            ("fer-edge/no node/availability", "online"),
            ("fer-edge/a/b/availability", "online"),
        ):
            subscriber.publish(topic, payload, retain=True)
    _, hall, other, summary = cli("fleet", "--mqtt", f"mqtt://localhost:{broker.port}").stdout.splitlines()
    assert cells(hall) == ["hall", "online", "-", "-", "9.5", "-", "5", "now"]  # its info was overwritten
    assert cells(other)[:3] == ["other", "online", r"\x1b[31m"]
    assert len(other) < 200
    assert summary == "2 nodes: 2 online"


def test_a_fleet_that_never_stops_sending_is_listed(broker: Mosquitto, cli: Cli) -> None:
    publish(broker.port, retained("hall", "online", stats()))
    ended = threading.Event()

    def chatter() -> None:
        with subscribing(broker.port) as client:
            while not ended.is_set():
                client.publish("fer-edge/hall/camera", "online", retain=True)

    sender = threading.Thread(target=chatter)
    sender.start()
    try:
        assert cli("fleet", "--mqtt", f"mqtt://localhost:{broker.port}").stdout.endswith("1 node: 1 online\n")
    finally:
        ended.set()
        sender.join()


@contextmanager
def watching(port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "fer_edge.cli", "fleet", "--mqtt", f"mqtt://localhost:{port}", "--watch", *options]
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def next_report(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    report: dict[str, Any] = msgspec.json.decode(process.stdout.readline())
    return report


def test_watch_prints_each_change_and_survives_the_broker(tmp_path: Path, gate: Gate) -> None:
    with Mosquitto(tmp_path / "broker") as broker:
        gate.target = broker.port
        publish(broker.port, retained("hall", "online", stats()))
        with watching(gate.port, "--json") as process:
            assert next_report(process)["state"] == "online"
            publish(broker.port, [MESSAGES.camera("stalled")])
            assert next_report(process)["state"] == "camera stalled"
            broker.kill()
            assert process.stderr is not None
            warning = process.stderr.readline()
            assert warning.startswith(f"fer-edge: warning: mqtt://localhost:{gate.port}: ")
            assert warning.endswith("; trying again\n")
            broker.start()
            gate.target = broker.port
            publish(broker.port, retained("attic", "offline", stats()))
            assert next_report(process)["node"] == "attic"


def test_says_that_nodes_were_left_out(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(broker.port, [one for name in ("a", "b", "c") for one in retained(name, "online", stats())])
    monkeypatch.setattr("fer_edge_device.mqtt.fleet.MAX_NODES", 2)
    list_nodes(broker=f"mqtt://localhost:{broker.port}")
    output, warnings = capsys.readouterr()
    assert output.splitlines()[-1] == "2 nodes: 2 online"
    assert warnings == (
        "fer-edge: warning: there are more than 2 nodes, and only the first of them are shown; use mqtt.topic_prefix\n"
    )


def test_watch_prints_the_table_again(broker: Mosquitto) -> None:
    publish(broker.port, retained("hall", "online", stats()))
    with watching(broker.port) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(4)][2:] == ["1 node: 1 online\n", "\n"]
        publish(broker.port, retained("attic", "offline", stats()))
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if line.startswith("2 nodes")) == "2 nodes: 1 online, 1 no camera\n"


@pytest.mark.parametrize("options", [(), ("--watch",), ("--json", "--watch")])
def test_a_broker_that_cannot_be_reached_is_an_error(broker: Mosquitto, cli: Cli, options: tuple[str, ...]) -> None:
    broker.kill()
    url = f"mqtt://localhost:{broker.port}"
    message = cli("fleet", "--mqtt", url, *options, status=1).stderr
    assert message == f"fer-edge: {url}: refused the connection; is a broker running there?\n"
    assert "no broker is given: --mqtt" in cli("fleet", *options, status=2).stderr
