"""Test the camera's process behind `fer-edge run` and `fer_edge.watch`: hangs, signals, kills and what others see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.capture.factory import open_source
from fer_edge_device.capture.process import _PROGRAM
from fer_edge_device.config.settings import CameraSettings
from fer_edge_device.messages import MessageFactory
from tests.device.brokers import Mosquitto, Subscriber, subscribing, wait_for
from tests.device.conftest import LONG, camera_processes, next_frame
from tests.device.running import Running
from tests.device.servers import PASSWORD, USER, Http, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.device.fakes import Hardware

TOPICS = MessageFactory("one")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - only listed


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def subscriber(broker: Mosquitto) -> Iterator[Subscriber]:
    with subscribing(broker.port) as subscriber:
        yield subscriber


@pytest.fixture
def config(tmp_path: Path, broker: Mosquitto) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(
        'node = "one"\n[camera]\nsource = "picamera2"\nstall_timeout_s = 1\nexit_after_s = 600\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
    )
    return path


@pytest.fixture
def running(pi: Hardware, config: Path, subscriber: Subscriber) -> Iterator[Running]:
    """Run a node whose camera module gives frames."""
    run = Running(config)
    with run.process:
        wait_for(lambda: last_status(subscriber) == b"online", "the camera")
        assert pi.instances[0].is_open
        yield run
        run.process.kill()


def last_status(subscriber: Subscriber) -> bytes | None:
    return next(reversed(subscriber.payloads(TOPICS.topic("camera"))), None)


def has_ended(process: int) -> bool:
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize("hanging", ["frame_hangs", "stop_hangs"])
def test_sigterm_ends_the_run_while_the_driver_hangs(
    pi: Hardware, subscriber: Subscriber, running: Running, hanging: str
) -> None:
    setattr(pi, hanging, True)
    if hanging == "frame_hangs":
        wait_for(lambda: last_status(subscriber) == b"stalled", "the stall")
    [process] = camera_processes(running.process.pid)
    start = time.monotonic()
    running.process.terminate()
    assert running.process.wait(LONG) == 0
    assert time.monotonic() - start < 15  # 2 s, on a machine with nothing else to do
    assert has_ended(process)
    assert running.process.stderr
    assert "Traceback" not in running.process.stderr.read()


def test_sigterm_ends_the_run_while_the_enumeration_hangs(pi: Hardware, config: Path, subscriber: Subscriber) -> None:
    pi.enumeration_hangs = True
    run = Running(config)
    with run.process:
        wait_for(lambda: last_status(subscriber) == b"offline", "the node")
        wait_for(lambda: bool(camera_processes(run.process.pid)), "the camera's process")
        [process] = camera_processes(run.process.pid)
        run.process.terminate()
        assert run.process.wait(LONG) == 0
    assert has_ended(process)


def test_off_closes_the_camera_while_its_driver_hangs(pi: Hardware, subscriber: Subscriber, running: Running) -> None:
    pi.frame_hangs = True
    wait_for(lambda: last_status(subscriber) == b"stalled", "the stall")
    subscriber.publish(TOPICS.topic("enabled/set"), "OFF")
    wait_for(lambda: last_status(subscriber) == b"disabled", "the camera to be closed")
    assert not pi.instances[0].is_open
    assert not camera_processes(running.process.pid)
    pi.frame_hangs = False
    subscriber.publish(TOPICS.topic("enabled/set"), "ON")
    wait_for(lambda: last_status(subscriber) == b"online", "the camera again")


def test_driver_that_hangs_for_long_ends_the_run_with_one_line(
    pi: Hardware, config: Path, subscriber: Subscriber
) -> None:
    config.write_text(config.read_text().replace("exit_after_s = 600", "exit_after_s = 6"))
    run = Running(config)
    with run.process:
        wait_for(lambda: last_status(subscriber) == b"online", "the camera")
        pi.frame_hangs = True
        assert run.process.wait(2 * LONG) == 1
        assert run.process.stderr
        log = run.process.stderr.read().splitlines()
    assert log[-1].startswith("fer-edge: picamera2: gave no frame for ")
    assert not any("Traceback" in line for line in log)


def test_killing_the_run_leaves_no_process_and_no_memory(pi: Hardware, running: Running) -> None:
    pi.frame_hangs = True
    names = set(SHARED_MEMORY.iterdir())
    [process] = camera_processes(running.process.pid)
    running.process.kill()
    wait_for(lambda: has_ended(process), "the end of the camera's process")
    assert not [path for path in set(SHARED_MEMORY.iterdir()) - names if "fer" in path.name]


def test_process_says_nothing_if_the_run_was_killed_before_it_gave_a_task() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_signal_to_the_whole_group_ends_both_in_order(pi: Hardware, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        count = pi.openings
        run = subprocess.Popen(
            [sys.executable, "-m", "fer_edge.cli", "run", "--config", config, "--source", "picamera2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with run:
            assert run.stdout
            assert any('"payload":"online"' in line and "camera" in line for line in run.stdout)
            os.killpg(run.pid, number)
            _, log = run.communicate(timeout=LONG)
        assert run.returncode == status
        assert "Traceback" not in log
        assert "camera's process" not in log
        assert not pi.instances[count].is_open


def test_password_of_a_camera_is_in_no_argument_and_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Http) as server:
        source = f"http://{USER}:{PASSWORD}@127.0.0.1:{server.port}/locked"
        monkeypatch.setenv("FER_EDGE_CAMERA_SOURCE", source)
        camera = open_source(CameraSettings(source=source))
        next_frame(camera)
        [process] = camera_processes()
        for name in ("cmdline", "environ"):
            assert PASSWORD.encode() not in Path("/proc", str(process), name).read_bytes()
        camera.close()


SCRIPT = """
import sys, threading
import fer_edge

def first_event():
    events = fer_edge.watch(sys.argv[1])
    print(next(events).event_type)
    events.close()

first_event()
thread = threading.Thread(target=first_event)
thread.start()
thread.join()
"""


def test_a_script_needs_no_guard_to_watch_a_camera(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with serving(Http) as server:
        address = f"http://127.0.0.1:{server.port}/video"
        result = subprocess.run(
            [sys.executable, script, address], capture_output=True, text=True, timeout=2 * LONG, check=False
        )
    assert (result.stdout, result.stderr) == ("new\nnew\n", "")
