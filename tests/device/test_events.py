"""Test events of a source in this process, without messages, broker or service."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge import demo
from fer_edge.errors import InputError, SourceError, SourceLostError
from fer_edge_device import app
from fer_edge_device.capture.base import Frame, NoFrameYet
from fer_edge_device.config.settings import CameraSettings, Config

if TYPE_CHECKING:
    from fer_edge_device.messages import CameraStatus, Event

DEMO = Config(camera=CameraSettings(source="demo"))


class ScriptedCamera:
    """A live camera that shows a face, has no frame once, and fails in the end."""

    live = True
    status: CameraStatus = "online"

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self.reads: list[float] = []
        self.wanted: list[float] = []
        self.closed = False

    def read(self, not_before: float = 0.0) -> Frame:
        self.wanted.append(not_before)
        self.reads.append(time.monotonic())
        if len(self.reads) == 3:
            raise NoFrameYet
        if len(self.reads) > self._frames:
            raise SourceLostError("camera failed: unplugged")
        return Frame(demo.frame(10), max(not_before, len(self.reads) / 10), len(self.reads), epoch=1000.0)

    def close(self) -> None:
        self.closed = True


def use(monkeypatch: pytest.MonkeyPatch, camera: ScriptedCamera) -> None:
    monkeypatch.setattr(app, "open_source", lambda settings, *, realtime, may_shrink: camera)  # noqa: ARG005


def test_demo_gives_the_events_that_the_command_publishes() -> None:
    command = (sys.executable, "-m", "fer_edge.cli", "run", "--source", "demo", "--full-speed", "--config", "/dev/null")
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    messages = map(json.loads, result.stdout.splitlines())
    published = [message["payload"] for message in messages if message["topic"].endswith("/event")]
    events = list(app.events(DEMO))
    assert [msgspec.to_builtins(event, str_keys=True) | {"box": list(event.box)} for event in events] == published
    assert [event.event_type for event in events].count("end") == 3


def test_demo_plays_at_full_speed_unless_real_time_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []
    monkeypatch.setattr(time, "sleep", sleeps.append)
    assert list(app.events(DEMO))
    assert not sleeps
    with closing(app.events(DEMO, realtime=True)) as events:
        next(events)
    assert sleeps


def test_lost_camera_ends_every_face_then_raises_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = ScriptedCamera(frames=8)
    use(monkeypatch, camera)
    events: list[Event] = []
    with pytest.raises(SourceLostError, match="unplugged"):
        events.extend(app.events(DEMO))
    types = [event.event_type for event in events]
    assert types.count("new") == types.count("end") > 0
    assert all(event.time > 1000 for event in events)
    assert camera.closed


@pytest.mark.parametrize("events_before", [0, 1])
def test_closing_the_iterator_closes_the_camera(monkeypatch: pytest.MonkeyPatch, events_before: int) -> None:
    camera = ScriptedCamera(frames=1000)
    use(monkeypatch, camera)
    events = app.events(DEMO)
    list(itertools.islice(events, events_before))
    assert not camera.closed
    events.close()
    assert camera.closed == (events_before > 0)
    assert list(events) == []


def test_reads_live_source_no_faster_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = ScriptedCamera(frames=10)
    use(monkeypatch, camera)
    settings = Config(camera=CameraSettings(source="demo", fps=5.0, idle_fps=5.0))
    with pytest.raises(SourceLostError):
        list(app.events(settings))
    *_, before, last = camera.wanted
    assert last - before == pytest.approx(1 / 5)


def test_rejects_unusable_settings_in_one_line() -> None:
    with pytest.raises(SourceError, match=r"no source 'nowhere\.mp4'"):
        next(app.events(Config(camera=CameraSettings(source="nowhere.mp4"))))
    with pytest.raises(InputError, match="no such model file"):
        next(app.events(Config(model="none.tflite")))
