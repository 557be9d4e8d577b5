from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fer_edge.classify import TFLiteClassifier
from fer_edge.errors import InputError, SourceLostError
from fer_edge.faces import HaarDetector
from fer_edge_device.cameras import open_camera
from fer_edge_device.config import CameraSettings, EventsSettings, FacesSettings
from fer_edge_device.frames import Frame, NoFrameYet
from fer_edge_device.messages import Info, Message, Topics
from fer_edge_device.pipeline import Pipeline
from fer_edge_device.runner import Runner
from fer_edge_device.sinks import JsonLines, SinkClosed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge_device.frames import Camera
    from fer_edge_device.messages import CameraStatus

INFO = Info(version="0", model="edge", model_sha256="0", labels=("a", "b"))


class Kept:
    """A sink that keeps what it is given, until it is told that nobody listens."""

    def __init__(self, most: int = 10_000) -> None:
        self.messages: list[Message] = []
        self._most = most

    def publish(self, message: Message) -> None:
        if len(self.messages) >= self._most:
            raise SinkClosed
        self.messages.append(message)

    def close(self) -> None:
        pass

    def said(self, kind: str) -> list[Any]:
        return [m.payload for m in self.messages if m.topic == f"fer-edge/test/{kind}"]


class LiveScript:
    """A live camera that gives frames, nothing, or an error, as a script says."""

    live = True
    status: CameraStatus = "online"

    def __init__(self, steps: str) -> None:
        self._steps: Iterator[str] = iter(steps)
        self._number = -1

    def read(self) -> Frame | None:
        step = next(self._steps)
        if step == "e":
            raise SourceLostError("the camera failed: unplugged")
        if step == "-":
            time.sleep(0.05)
            raise NoFrameYet
        self._number += int(step)
        return Frame(np.zeros((64, 64), np.uint8), time.time(), self._number)

    def close(self) -> None:
        pass


def make_runner(camera: Camera, sink: Kept, **options: float) -> Runner:
    pipeline = Pipeline(
        HaarDetector(),
        TFLiteClassifier(),
        session="s",
        model="edge",
        faces=FacesSettings(),
        events=EventsSettings(),
        fps=10.0,
        idle_fps=2.0,
    )
    return Runner(camera, pipeline, Topics("test"), INFO, [sink], **options)


def test_order_of_messages_from_online_to_offline() -> None:
    sink = Kept()
    summary = make_runner(open_camera(CameraSettings(source="demo"), realtime=False), sink).run(seconds=3)
    kinds = [message.topic.rpartition("/")[2] for message in sink.messages]
    assert kinds[:3] == ["availability", "info", "camera"]
    assert kinds[-2:] == ["camera", "availability"]
    assert sink.said("availability") == ["online", "offline"]
    assert sink.said("camera") == ["online", "offline"]
    assert summary.frames == 30
    assert summary.events["new"] == summary.events["end"] == 2
    retained = {message.topic.rpartition("/")[2]: (message.retain, message.qos) for message in sink.messages}
    assert retained == {
        "availability": (True, 1),
        "info": (True, 1),
        "camera": (True, 1),
        "state": (True, 1),
        "event": (False, 1),
        "stats": (False, 0),
    }


def test_stats_say_what_frames_cost_and_what_was_dropped() -> None:
    sink = Kept()
    with pytest.raises(SourceLostError):
        make_runner(LiveScript("1111511e"), sink, stats_every=0.0).run()
    last = sink.said("stats")[-1]
    assert last.dropped == 4
    assert last.fps > 0
    assert set(last.stages) == {"detect", "classify", "track"}
    assert 0 <= last.stages["detect"].p50 <= last.stages["detect"].p95
    assert 20 < last.rss_mb < 2000


def test_a_camera_that_pauses_is_stalled_and_then_online_again() -> None:
    sink = Kept()
    with pytest.raises(SourceLostError, match="unplugged"):
        make_runner(LiveScript("11----11e"), sink, stalled_after=0.1).run()
    assert sink.said("camera") == ["online", "stalled", "online", "offline"]
    assert sink.said("availability") == ["online", "offline"]


def test_a_camera_that_never_comes_back_ends_the_run_with_an_error() -> None:
    sink = Kept()
    with pytest.raises(SourceLostError, match="gave no frame for"):
        make_runner(LiveScript("1" + "-" * 100), sink, stalled_after=0.1, give_up_after=0.4).run()
    assert sink.said("camera") == ["online", "stalled", "offline"]


def test_when_nobody_listens_any_more_the_run_ends_quietly() -> None:
    sink = Kept(most=5)
    summary = make_runner(open_camera(CameraSettings(source="demo"), realtime=False), sink).run()
    assert len(sink.messages) == 5
    assert summary.frames < 120


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    sink = Kept()
    threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
    summary = make_runner(open_camera(CameraSettings(source="demo")), sink).run()
    assert summary.seconds < 5
    assert summary.interrupted == (number == signal.SIGINT)
    assert [event.event_type for event in sink.said("event")].count("end") == summary.events["new"]
    assert sink.said("availability") == ["online", "offline"]
    assert signal.getsignal(number) == before


def test_systemd_is_told_ready_after_the_first_frame_and_pinged_by_completed_frames_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(0)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        with pytest.raises(SourceLostError):
            make_runner(LiveScript("--1--1e"), Kept()).run()
        notices = []
        while True:
            try:
                notices.append(receiver.recv(100).decode())
            except BlockingIOError:
                break
    assert notices == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_a_notice_that_nobody_takes_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    assert make_runner(open_camera(CameraSettings(source="demo"), realtime=False), Kept()).run(seconds=0.5).frames == 5


def test_a_camera_that_is_lost_while_nobody_listens_is_still_an_error() -> None:
    with pytest.raises(SourceLostError, match="unplugged"):
        make_runner(LiveScript("11e"), Kept(most=4)).run()


def test_a_line_of_output_is_one_message_in_the_agreed_shape(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("wb") as file:
        sink = JsonLines(file)
        sink.publish(Topics("kitchen").availability("online"))
        sink.publish(Topics("kitchen").info(INFO))
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"topic": "fer-edge/kitchen/availability", "payload": "online", "qos": 1, "retain": True}
    assert second["payload"] == {
        "schema": 1,
        "version": "0",
        "model": "edge",
        "model_sha256": "0",
        "labels": ["a", "b"],
    }


@pytest.mark.parametrize("name", ["", "a/b", "a b", "+", "#", "x" * 65])
def test_a_node_name_that_is_no_topic_level_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="--node"):
        Topics(name)
