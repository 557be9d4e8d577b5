"""Test `fer-edge run` in another process, and reloading on SIGHUP."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import cv2
import msgspec
import pytest

from fer_edge import demo
from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox
from tests.device.brokers import TIMEOUT, Gate, Mosquitto, Subscriber, subscribing, wait_for
from tests.device.running import Running, systemd_notices
from tests.device.test_reload_model import write_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Return a folder of images with one face that stays for two minutes."""
    folder = tmp_path / "video"
    folder.mkdir()
    assert cv2.imwrite(str(folder / "0000.png"), demo.frame(10))
    for number in range(1, 1200):
        (folder / f"{number:04}.png").hardlink_to(folder / "0000.png")
    return folder


@pytest.fixture
def running(tmp_path: Path, video: Path) -> Iterator[Running]:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "one"\n[camera]\nsource = "{video}"\n[events]\nstats_interval_s = 0.5\n')
    run = Running(path)
    with run.process:
        yield run
        run.process.kill()


def test_sighup_changes_model_topics_and_thresholds_but_no_track(running: Running, video: Path) -> None:
    face = running.until("one/event", event_type="new")["payload"]["id"]
    rest = f'[camera]\nsource = "{video}"\n[events]\nheartbeat_interval_s = 0.5\n'
    running.change('node = "one"\nmodel = "edge-plus"\n' + rest)
    assert running.until("one/info")["payload"]["model"] == "edge-plus"
    running.until("one/state", faces=1)
    running.until("one/state", faces=1)
    assert running.log_line() == "fer-edge: configuration reloaded\n"

    running.change('node = "two"\nmodel = "edge-plus"\n' + rest)
    assert running.until("one/availability")["payload"] == "offline"
    assert running.until("two/availability")["payload"] == "online"
    assert running.until("two/state")["payload"]["faces"] == 1
    running.process.send_signal(signal.SIGTERM)
    assert running.until("two/event", event_type="end")["payload"]["id"] == face
    assert running.process.wait(TIMEOUT) == 0


def test_invalid_config_changes_nothing_and_is_logged(running: Running, video: Path, tmp_path: Path) -> None:
    running.until("one/event", event_type="new")
    for text, expected in (
        ("node = ", "not valid TOML, line 1: invalid value"),
        ("nodes = 1", "did you mean node?"),
        ('model = "none.tflite"', "no such model file"),
        ('[faces]\ndetector = "yunet"', "needs --detector-model"),
        (
            '[mqtt]\nurl = "mqtt://localhost"\n[outbox]\npath = "/dev/null/outbox.sqlite"',
            "cannot create the folder of the outbox",
        ),
    ):
        running.change(text)
        line = running.log_line()
        assert line.startswith("fer-edge: configuration not reloaded, nothing has changed: ")
        assert expected in line
    # An outbox that another runner holds, and whose privacy switch is off.
    (tmp_path / "outbox.sqlite.off").touch()
    other_outbox = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
    running.change(f'[mqtt]\nurl = "mqtt://localhost"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"')
    assert "nothing has changed" in running.log_line()
    other_outbox.close()
    assert running.until("one/enabled/state")["payload"] == "ON"
    running.change(f'node = "one"\n[camera]\nsource = "{video}"\nwidth = 320\n')
    assert "camera.width: these changes take effect after a restart" in running.log_line()
    assert "configuration reloaded" in running.log_line()
    running.process.send_signal(signal.SIGTERM)
    running.until("one/event", event_type="end")
    assert running.process.wait(TIMEOUT) == 0


def test_stop_during_reload_with_silent_broker_stays_within_unit_timeout(tmp_path: Path, video: Path) -> None:
    path = tmp_path / "config.toml"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        rest = (
            f'[camera]\nsource = "{video}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{silent.getsockname()[1]}"\n'
            f'[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
        )
        path.write_text(f'node = "one"\n{rest}')
        run = Running(path)
        with run.process:
            run.until("one/event", event_type="new")
            run.change(f'node = "two"\n{rest}')
            assert run.until("one/availability")["payload"] == "offline"
            run.process.send_signal(signal.SIGTERM)
            assert run.until("two/availability")["payload"] == "online"
            assert run.process.wait(20) == 0  # TimeoutStopSec


def test_sighup_moves_to_another_broker(tmp_path: Path, running: Running, video: Path) -> None:
    running.until("one/event", event_type="new")
    with Mosquitto(tmp_path) as broker:
        running.change(
            f'node = "one"\n[camera]\nsource = "{video}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            f'ha_discovery = true\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
        )
        lines = running.log_line() + running.log_line()  # by two threads, in either order
        assert "configuration reloaded" in lines
        assert "connected to" in lines
        running.process.send_signal(signal.SIGTERM)
        running.until("one/availability")
        assert running.process.wait(TIMEOUT) == 0


def test_privacy_switch_stays_off_after_kill(tmp_path: Path, video: Path) -> None:
    path, switch = tmp_path / "config.toml", "fer-edge/one/enabled/set"

    def settings(broker: Mosquitto, outbox: str) -> str:
        return (
            f'node = "one"\n[camera]\nsource = "{video}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            f'[outbox]\npath = "{tmp_path}/{outbox}"\n'
        )

    with Mosquitto(tmp_path / "first") as first, Mosquitto(tmp_path / "second") as second:
        path.write_text(settings(first, "a.sqlite"))
        run = Running(path)
        with run.process, subscribing(first.port) as subscriber:
            run.until("one/event", event_type="new")
            subscriber.publish(switch, "OFF", retain=True)
            run.until("one/event", event_type="end")
            assert run.until("enabled/state")["payload"] == "OFF"
            run.process.kill()
        path.write_text(settings(second, "a.sqlite"))
        run = Running(path)
        with run.process, subscribing(second.port) as subscriber:
            assert run.until("one/state")["payload"]["faces"] == 0
            assert run.until("enabled/state")["payload"] == "OFF"
            assert (
                run.log_line() == f"fer-edge: switched off: no frame is processed until ON is published to {switch}\n"
            )
            run.change(settings(second, "b.sqlite"))
            assert run.until("enabled/state")["payload"] == "OFF"
            assert (tmp_path / "b.sqlite.off").exists()

            def switched_on() -> bool:
                # One that the broker keeps until the runner has connected is not obeyed; the next one is.
                subscriber.publish(switch, "ON", retain=True)
                return not (tmp_path / "b.sqlite.off").exists()

            wait_for(switched_on, "ON")
            assert run.until("enabled/state")["payload"] == "ON"
            run.until("one/event", event_type="new")
            run.process.kill()


def test_off_wins_over_an_older_retained_on(tmp_path: Path, video: Path) -> None:
    path, switch = tmp_path / "config.toml", "fer-edge/one/enabled/set"
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        path.write_text(
            f'node = "one"\n[camera]\nsource = "{video}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            f'[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
        )
        subscriber.publish(switch, "ON", retain=True)  # as an earlier release asked Home Assistant to do
        run = Running(path)
        with run.process:
            run.until("one/event", event_type="new")
            wait_for(lambda: b"" in subscriber.payloads(switch), "the command to be removed")
            subscriber.publish(switch, "OFF")
            assert run.until("enabled/state")["payload"] == "OFF"
            run.process.terminate()
            assert run.process.wait(TIMEOUT) == 0
        # It comes back, for example from a bridge or from another program that retains it.
        subscriber.publish(switch, "ON", retain=True)
        removed = len(subscriber.payloads(switch)) + 1
        run = Running(path)
        with run.process:
            assert run.until("enabled/state")["payload"] == "OFF"
            wait_for(lambda: len(subscriber.payloads(switch)) == removed, "the command to be removed")
            assert subscriber.payloads(switch)[-1] == b""
            assert "a retained ON was not obeyed" in "".join(run.log_line() for _ in range(3))
            assert (tmp_path / "outbox.sqlite.off").exists()
            subscriber.publish(switch, "ON")
            assert run.until("enabled/state")["payload"] == "ON"
            run.until("one/event", event_type="new")
            run.process.kill()
        assert subscriber.payloads("fer-edge/one/enabled/state") == [b"ON", b"OFF", b"OFF", b"ON"]


def blinking(folder: Path) -> Path:
    """Return a folder of images, half a minute long, with a face that appears and disappears every second."""
    folder.mkdir()
    for name, image in (("face", demo.frame(10)), ("wall", demo.wall())):
        assert cv2.imwrite(str(folder / f"{name}.bmp"), image)
    for number in range(300):
        (folder / f"{number:04}.png").hardlink_to(folder / ("face.bmp" if number // 5 % 2 else "wall.bmp"))
    (folder / "face.bmp").unlink()
    (folder / "wall.bmp").unlink()
    return folder


def printed_events(text: str) -> list[bytes]:
    """Return the events that a runner has printed; an incomplete line does not count."""
    return [
        msgspec.json.encode(json.loads(line)["payload"])
        for line in text.splitlines(keepends=True)
        if "/event" in line and line.endswith("\n")
    ]


@pytest.mark.slow
def test_events_reach_the_broker_after_both_are_killed(tmp_path: Path) -> None:
    video, output, config = blinking(tmp_path / "video"), tmp_path / "out.jsonl", tmp_path / "config.toml"
    chance = random.Random(1)  # noqa: S311 - no secret
    subscriber = Subscriber()
    with Gate() as gate, Mosquitto(tmp_path / "broker") as broker, output.open("wb") as out:
        config.write_text(
            f'node = "one"\n[camera]\nsource = "{video}"\n[events]\nmin_hits = 1\nmax_age_s = 0.2\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{gate.port}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
        )
        run = (sys.executable, "-m", "fer_edge.cli", "run", "--config", config)

        def start(*options: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*run, *options], stdout=out, stderr=subprocess.DEVNULL)

        gate.target = broker.port
        subscriber.connect(broker.port)
        for _ in range(3):
            length = output.stat().st_size
            with start("--realtime") as runner:
                wait_for(functools.partial(lambda size: output.stat().st_size > size, length), "messages")
                time.sleep(chance.uniform(0.5, 3))
                runner.kill()
        with start("--realtime") as runner:
            while runner.poll() is None:
                time.sleep(chance.uniform(0.5, 3))
                gate.target = None
                broker.kill()
                subscriber.wait_for_end()
                time.sleep(chance.uniform(0, 1))
                broker.start()
                subscriber.connect(broker.port)
                gate.target = broker.port
        assert runner.returncode == 0
        # The next run sends what this one could not send.
        with start("--full-speed", "--seconds", "0.1") as runner:
            pass
        events = printed_events(output.read_text())
        wait_for(lambda: set(events) <= set(subscriber.payloads("fer-edge/one/event")), "every event")
        subscriber.drop()
    received = dict.fromkeys(subscriber.payloads("fer-edge/one/event"))
    assert len(set(events)) > 40
    assert [event for event in received if event in set(events)] == list(dict.fromkeys(events)), "in their order"


def test_settings_change_over_mqtt_and_stay_until_the_configuration_changes(tmp_path: Path, video: Path) -> None:
    path, topic = tmp_path / "config.toml", "fer-edge/one/settings/set"
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        text = (
            f'node = "one"\n[camera]\nsource = "{video}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            f'[outbox]\npath = "{tmp_path}/outbox.sqlite"\n[events]\nsmoothing_s = 1.0\n'
        )
        path.write_text(text)
        subscriber.publish(topic, '{"margin": 0.9}', retain=True)
        run = Running(path)
        with run.process:
            assert run.until("settings/state")["payload"] == {"margin": 0.1, "hold_s": 0.3}
            wait_for(lambda: b"" in subscriber.payloads(topic), "the retained command to be removed")
            for wrong in (
                "0.2",
                '{"margin": 1.5}',
                '{"margin": true}',
                '{"model": "x"}',
                '{"margin": NaN}',
                "x" * 2000,
            ):
                subscriber.publish(topic, wrong)
            subscriber.publish(topic, '{"margin": 0.25}')
            assert run.until("settings/state")["payload"] == {"margin": 0.25, "hold_s": 0.3}
            subscriber.publish(topic, '{"hold_s": 2, "margin": 0.25}')
            assert run.until("settings/state")["payload"] == {"margin": 0.25, "hold_s": 2.0}
            # A key that is changed in the configuration is the later change; the others stay as they are.
            run.change(f"{text}margin = 0.3\n")
            assert run.until("settings/state")["payload"] == {"margin": 0.3, "hold_s": 2.0}
            run.process.kill()
            assert run.process.stderr
            log = run.process.stderr.read()
        assert "settings/set: a retained message was not obeyed" in log
        assert "settings/set: no setting was changed: margin must be at most 1; send JSON such as" in log
        assert log.count("no setting was changed") == 5
        assert "Traceback" not in log
        run = Running(path)
        with run.process:
            assert run.until("settings/state")["payload"] == {"margin": 0.3, "hold_s": 2.0}
            run.process.kill()


def test_restart_over_mqtt_goes_on_in_the_same_process(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, topic = tmp_path / "config.toml", "fer-edge/one/restart/set"
    path.write_text(f'node = "one"\n[camera]\nsource = "{video}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n')
    with (
        Mosquitto(tmp_path / "broker") as broker,
        subscribing(broker.port) as subscriber,
        systemd_notices(tmp_path, monkeypatch) as notices,
    ):
        monkeypatch.setenv("FER_EDGE_MQTT_URL", f"mqtt://127.0.0.1:{broker.port}")

        def next_notice(*kinds: str) -> str:
            while not (notice := notices.get(timeout=TIMEOUT)).startswith(kinds):
                pass
            return notice

        subscriber.publish(topic, "PRESS", retain=True)
        run = Running(path)
        with run.process:
            run.until("one/event", event_type="new")
            assert next_notice("READY", "STOPPING") == "READY=1"
            wait_for(lambda: b"" in subscriber.payloads(topic), "the retained command to be removed")
            subscriber.publish(topic, "now")
            subscriber.publish(topic, "PRESS")
            assert run.until("one/event", event_type="end")
            assert run.until("availability")["payload"] == "offline"
            assert run.until("availability")["payload"] == "online"
            run.until("one/event", event_type="new")
            assert next_notice("RELOADING", "STOPPING").startswith("RELOADING=1")
            assert next_notice("READY", "STOPPING") == "READY=1"
            run.process.terminate()
            assert run.process.wait(TIMEOUT) == 0
            assert next_notice("READY", "STOPPING") == "STOPPING=1"
            assert run.process.stderr
            log = run.process.stderr.read()
        assert log.count("restarting") == 1
        assert "restart/set: to restart the runner, send PRESS" in log
        wait_for(lambda: len(subscriber.payloads("fer-edge/one/availability")) == 4, "the messages")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may hide /proc")
def test_runs_without_proc(tmp_path: Path) -> None:
    model = tmp_path / "own.tflite"
    write_model(model, bytes(8))  # which is tried first, in a process of its own
    run = f"mount -t tmpfs none /proc && exec {sys.executable} -m fer_edge.cli run --source demo --model {model}"
    command = ("unshare", "--mount", "--propagation=private", "sh", "-c", run)
    environment = {**os.environ, "FER_EDGE_EVENTS_STATS_INTERVAL_S": "1", "FER_EDGE_NODE": "hall"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)
    if "permission denied" in result.stderr:
        pytest.skip("this machine allows no mounts")
    assert result.returncode == 0, result.stderr
    messages = [json.loads(line) for line in result.stdout.splitlines()]
    figures = [message["payload"]["rss_mb"] for message in messages if message["topic"].endswith("/stats")]
    assert figures
    assert set(figures) == {None}
