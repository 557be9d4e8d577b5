"""Test the camera of `fer-edge run` with a real broker: switched off and on, and missing at the start.

The camera is one of the network, because it sees itself whether anybody looks.
"""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.outbox import Outbox
from tests.device.brokers import TIMEOUT, Gate, Mosquitto, Subscriber, subscribing, wait_for
from tests.device.mqtt.helpers import new_event
from tests.device.running import Running
from tests.device.servers import Http, NetworkCamera, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Cli

TOPICS = MessageFactory("one")
EVENT = b'{"schema":1,"event_type":"end","id":"s-1","time":1.0}'


@pytest.fixture
def camera() -> Iterator[NetworkCamera]:
    with serving(Http) as server:
        yield server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    with subscribing(broker.port) as subscriber:
        yield subscriber


@pytest.fixture
def config(tmp_path: Path, camera: NetworkCamera, broker: Mosquitto) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        f'node = "one"\n[camera]\nsource = "http://127.0.0.1:{camera.port}/video"\n'
        "stall_timeout_s = 1\nexit_after_s = 600\n"
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
    )
    return path


def test_off_closes_the_camera_and_a_restart_leaves_it_closed(
    camera: NetworkCamera, subscriber: Subscriber, config: Path
) -> None:
    def statuses() -> list[bytes]:
        return subscriber.payloads(TOPICS.topic("camera"))

    run = Running(config)
    with run.process:
        wait_for(lambda: statuses()[-1:] == [b"online"], "the camera")
        assert camera.viewers == 1
        subscriber.publish(TOPICS.topic("enabled/set"), "OFF")
        wait_for(lambda: subscriber.payloads(TOPICS.topic("enabled/state"))[-1] == b"OFF", "OFF")
        wait_for(lambda: statuses()[-1] == b"disabled", "the camera to be closed")
        wait_for(lambda: not camera.viewers, "the connection to end")
        subscriber.publish(TOPICS.topic("enabled/set"), "ON")
        wait_for(lambda: statuses()[-1] == b"online", "the camera again")
        assert camera.viewers == 1
        subscriber.publish(TOPICS.topic("enabled/set"), "OFF")
        wait_for(lambda: statuses()[-1] == b"disabled", "the camera to be closed again")
        run.process.kill()
    calls, count = camera.calls, len(statuses())
    run = Running(config)
    with run.process:
        wait_for(lambda: statuses()[count:] == [b"disabled"], "the camera to stay closed")
        run.process.send_signal(signal.SIGTERM)
        assert run.process.wait(TIMEOUT) == 0
    assert (camera.calls, camera.viewers) == (calls, 0)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_off_that_waits_in_the_broker_is_obeyed_before_the_camera_is_opened(
    version: str, camera: NetworkCamera, subscriber: Subscriber, config: Path
) -> None:
    config.write_text(config.read_text().replace("[outbox]", f'version = "{version}"\n[outbox]'))
    subscriber.publish(TOPICS.topic("enabled/set"), "OFF", retain=True)
    run = Running(config)
    with run.process:
        wait_for(lambda: subscriber.payloads(TOPICS.topic("availability")) == [b"online"], "the node")
        assert subscriber.payloads(TOPICS.topic("enabled/state")) == [b"OFF"]
        assert subscriber.payloads(TOPICS.topic("camera")) == [b"disabled"]
        subscriber.publish(TOPICS.topic("enabled/set"), "ON")
        wait_for(lambda: subscriber.payloads(TOPICS.topic("camera"))[-1] == b"online", "the camera")
        run.process.terminate()
        assert run.process.wait(TIMEOUT) == 0
        assert run.process.stderr
        assert run.process.stderr.read().count("switched off: no frame is processed until ON is published to") == 1
    assert camera.calls == 1


@pytest.mark.parametrize("silent", [True, False], ids=["does not answer", "cannot be reached"])
def test_camera_is_opened_if_the_broker(
    camera: NetworkCamera, broker: Mosquitto, config: Path, *, silent: bool
) -> None:
    with Gate() as gate:
        gate.silent = silent
        config.write_text(config.read_text().replace(str(broker.port), str(gate.port)))
        run = Running(config)
        with run.process:
            assert run.until("/availability")["payload"] == "online"
            wait_for(lambda: camera.viewers, "the camera")
            run.process.terminate()
            assert run.process.wait(TIMEOUT) == 0


def test_missing_camera_is_reported_while_waiting_events_leave_and_found_later(
    camera: NetworkCamera, subscriber: Subscriber, config: Path, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
    outbox.begin_run(goes_on=False)
    outbox.put([new_event(EVENT, TOPICS.topic("event"))])
    outbox.close()
    camera.mood = "is gone"
    run = Running(config)
    with run.process:
        wait_for(lambda: subscriber.payloads(TOPICS.topic("availability")) == [b"online"], "the node")
        wait_for(lambda: subscriber.payloads(TOPICS.topic("camera")) == [b"offline"], "the camera's status")
        wait_for(lambda: EVENT in subscriber.payloads(TOPICS.topic("event")), "the event of an earlier run")
        camera.mood = "plays"
        wait_for(lambda: subscriber.payloads(TOPICS.topic("camera"))[-1] == b"online", "the camera")
        run.process.terminate()
        assert run.process.wait(TIMEOUT) == 0


def test_restart_after_a_kill_corrects_the_status_of_the_camera_before_online(
    camera: NetworkCamera, subscriber: Subscriber, config: Path
) -> None:
    def statuses() -> list[bytes]:
        return subscriber.payloads(TOPICS.topic("camera"))

    run = Running(config)
    with run.process:
        wait_for(lambda: statuses()[-1:] == [b"online"], "the camera")
        run.process.kill()
    wait_for(lambda: subscriber.payloads(TOPICS.topic("availability"))[-1] == b"offline", "the last will")
    camera.mood = "hangs"
    before = len(subscriber.received)
    run = Running(config)
    with run.process:
        wait_for(lambda: subscriber.payloads(TOPICS.topic("availability"))[-1] == b"online", "the node")
        topics = [message.topic for message in subscriber.received[before:]]
        assert topics.index(TOPICS.topic("camera")) < topics.index(TOPICS.topic("availability"))
        run.process.terminate()
        assert run.process.wait(TIMEOUT) == 0
    assert statuses()[-1] == b"offline"
    assert statuses().count(b"offline") == 2, "it is said once in each run that the camera does not answer"


def test_camera_that_stays_missing_ends_the_run_and_says_why(
    camera: NetworkCamera, subscriber: Subscriber, config: Path
) -> None:
    camera.mood = "is gone"
    config.write_text(config.read_text().replace("exit_after_s = 600", "exit_after_s = 4"))
    run = Running(config)
    with run.process:
        assert run.process.wait(TIMEOUT) == 1
        assert run.process.stderr
        log = run.process.stderr.read()
    assert f"http://127.0.0.1:{camera.port}: cannot be opened" in log.splitlines()[-1]
    assert "gave up after" in log.splitlines()[-1]
    assert "Traceback" not in log
    wait_for(lambda: subscriber.payloads(TOPICS.topic("availability"))[-1:] == [b"offline"], "the last word")
    assert subscriber.payloads(TOPICS.topic("camera"))[-1] == b"offline"


def test_summary_tells_skipped_from_dropped_frames(camera: NetworkCamera, cli: Cli) -> None:
    result = cli("run", "--source", f"http://127.0.0.1:{camera.port}/video", "--seconds", "2", "--config", "/dev/null")
    assert result.returncode == 0, result.stderr
    line = result.stderr.splitlines()[2]
    found = re.fullmatch(
        r"(\d+) frames skipped because camera\.fps and camera\.idle_fps ask for fewer, \d+ dropped while .*", line
    )
    assert found, line
    assert int(found[1]) > 2
