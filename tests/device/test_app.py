"""A runner as `fer-edge run` makes it, and what SIGHUP changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from fer_edge import demo
from tests.device.brokers import Mosquitto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    """``fer-edge run`` in a process of its own, its messages as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fer_edge.cli", "run", "--config", path, "--realtime"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENCV_FFMPEG_LOGLEVEL": "-8"},
        )

    def until(self, kind: str, **fields: object) -> dict[str, Any]:
        """The next message of a kind, with these fields."""
        assert self.process.stdout
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            payload = message["payload"]
            if message["topic"].endswith(kind) and all(payload[name] == value for name, value in fields.items()):
                return message
        raise AssertionError(f"no {kind} with {fields} came: {self.process.stderr and self.process.stderr.read()}")

    def told(self) -> str:
        """The next line of the log."""
        assert self.process.stderr
        return self.process.stderr.readline()

    def change(self, text: str) -> None:
        self._path.write_text(text)
        self.process.send_signal(signal.SIGHUP)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A folder of pictures with one face that stays, two minutes long."""
    folder = tmp_path / "film"
    folder.mkdir()
    assert cv2.imwrite(str(folder / "0000.png"), demo.frame(10))
    for number in range(1, 1200):
        (folder / f"{number:04}.png").hardlink_to(folder / "0000.png")
    return folder


@pytest.fixture
def running(tmp_path: Path, film: Path) -> Iterator[Running]:
    path = tmp_path / "config.toml"
    path.write_text(f'node = "one"\n[camera]\nsource = "{film}"\n[events]\nstats_every_s = 0.5\n')
    run = Running(path)
    with run.process:
        yield run
        run.process.kill()


def test_sighup_changes_model_topics_and_thresholds_and_no_track(running: Running, film: Path) -> None:
    face = running.until("one/event", event_type="new")["payload"]["id"]
    rest = f'[camera]\nsource = "{film}"\n[events]\nheartbeat_s = 0.5\n'
    running.change('node = "one"\nmodel = "edge-plus"\n' + rest)
    assert running.until("one/info")["payload"]["model"] == "edge-plus"
    running.until("one/state", faces=1)
    running.until("one/state", faces=1)
    assert running.told() == "fer-edge: the configuration was read anew\n"

    running.change('node = "two"\nmodel = "edge-plus"\n' + rest)
    assert running.until("one/availability")["payload"] == "offline"
    assert running.until("two/availability")["payload"] == "online"
    assert running.until("two/state")["payload"]["faces"] == 1
    running.process.send_signal(signal.SIGTERM)
    assert running.until("two/event", event_type="end")["payload"]["id"] == face
    assert running.process.wait(30) == 0


def test_a_bad_file_keeps_what_was_and_says_so(running: Running, film: Path) -> None:
    running.until("one/event", event_type="new")
    for text, said in (
        ("node = ", "Invalid value"),
        ("nodes = 1", "did you mean node?"),
        ('model = "none.tflite"', "no such model file"),
        ('[faces]\ndetector = "yunet"', "needs --detector-model"),
    ):
        running.change(text)
        line = running.told()
        assert line.startswith("fer-edge: everything stays as it was: ")
        assert said in line
    running.change(f'node = "one"\n[camera]\nsource = "{film}"\nwidth = 320\n')
    assert "[camera]: what changed there takes a restart" in running.told()
    assert "read anew" in running.told()
    running.process.send_signal(signal.SIGTERM)
    running.until("one/event", event_type="end")
    assert running.process.wait(30) == 0


def test_sighup_moves_to_another_broker(tmp_path: Path, running: Running, film: Path) -> None:
    running.until("one/event", event_type="new")
    with Mosquitto(tmp_path) as broker:
        running.change(
            f'node = "one"\n[camera]\nsource = "{film}"\n[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            f'ha_discovery = true\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
        )
        assert "read anew" in running.told()
        assert "connected to" in running.told()
        running.process.send_signal(signal.SIGTERM)
        running.until("one/availability")
        assert running.process.wait(30) == 0
