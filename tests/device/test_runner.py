from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import make_detector
from fer_edge.errors import InputError, SourceLostError
from fer_edge_device.capture.base import Frame, NoFrameYet
from fer_edge_device.capture.factory import make_source
from fer_edge_device.config.settings import CameraSettings, EventsSettings, FacesSettings
from fer_edge_device.messages import Event, Info, Message, MessageFactory
from fer_edge_device.pipeline.pipeline import Pipeline
from fer_edge_device.runner import NodeIdentity, Runner
from fer_edge_device.sinks import JsonLinesSink, SinkClosed
from tests.device.brokers import wait_for
from tests.device.running import systemd_notices
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fer_edge_device.capture.base import SwitchableSource
    from fer_edge_device.messages import CameraStatus
    from tests.device.fakes import Hardware

INFO = Info(version="0", model="edge", model_sha256="0", labels=("a", "b"))


class ListSink:
    """A sink that keeps its messages, and is closed after some of them; it calls a function at the first event."""

    queued = 3
    dropped = 1

    def __init__(self, max_messages: int = 10_000, at_event: Callable[[], None] = lambda: None) -> None:
        self.messages: list[Message] = []
        self._max_messages = max_messages
        self._at_event = at_event

    def publish(self, *messages: Message) -> None:
        for message in messages:
            if len(self.messages) >= self._max_messages:
                raise SinkClosed
            self.messages.append(message)
            if len(self.payloads("event")) == 1 and message.topic.endswith("/event"):
                self._at_event()

    def close(self, timeout: float = 0.0) -> None:
        pass

    def payloads(self, kind: str) -> list[Any]:
        return [m.payload for m in self.messages if m.topic == f"fer-edge/test/{kind}"]


class ScriptedCamera:
    """A live camera that gives frames, no frame or an error, as a script says."""

    live = True
    status: CameraStatus = "online"

    def __init__(self, steps: str) -> None:
        self._steps: Iterator[str] = iter(steps)
        self._number = -1
        self.times: list[float] = []

    def open(self) -> None:
        pass

    def read(self, not_before: float = 0.0) -> Frame | None:
        step = next(self._steps)
        if step == "e":
            raise SourceLostError("the camera failed: unplugged")
        if step in "-s":
            self.status = "stalled" if step == "s" else self.status
            raise NoFrameYet
        self.status = "online"
        self._number += int(step)
        self.times.append(not_before)
        return Frame(np.zeros((64, 64), np.uint8), not_before, self._number, dropped=int(step) // 5)

    def close(self) -> None:
        pass


def make_runner(
    camera: SwitchableSource, sink: ListSink, stats_interval: float = 10.0, idle_fps: float = 1000.0
) -> Runner:
    pipeline = Pipeline(
        make_detector(),
        TFLiteClassifier(),
        session="s",
        model="edge",
        faces=FacesSettings(),
        events=EventsSettings(),
        fps=1000.0,
        idle_fps=idle_fps,
    )
    return Runner(camera, pipeline, NodeIdentity(MessageFactory("test"), INFO), [sink], stats_interval=stats_interval)


def test_order_of_messages_from_online_to_offline() -> None:
    sink = ListSink()
    summary = make_runner(make_source(CameraSettings(source="demo"), realtime=False), sink).run(seconds=3)
    kinds = [message.topic.removeprefix("fer-edge/test/") for message in sink.messages]
    assert kinds[:6] == ["state", "info", "enabled/state", "settings/state", "camera", "availability"]
    assert kinds[-2:] == ["camera", "availability"]
    assert sink.payloads("availability") == ["online", "offline"]
    assert sink.payloads("camera") == ["online", "offline"]
    assert summary.frames == 30
    assert summary.events["new"] == summary.events["end"] == 2
    retained = {kind: (message.retain, message.qos) for kind, message in zip(kinds, sink.messages, strict=True)}
    assert retained == {
        "availability": (True, 1),
        "info": (True, 1),
        "enabled/state": (True, 1),
        "settings/state": (True, 1),
        "camera": (True, 1),
        "state": (True, 1),
        "event": (False, 1),
        "stats": (True, 0),
    }


def test_stats_report_time_per_stage_and_skipped_and_dropped_frames() -> None:
    sink = ListSink()
    with pytest.raises(SourceLostError):
        make_runner(ScriptedCamera("1121511e"), sink, stats_interval=0.0).run()
    last = sink.payloads("stats")[-1]
    assert (last.skipped, last.dropped) == (4, 1)
    assert last.fps > 0
    assert (last.queued, last.dropped_events) == (3, 1)
    stages = {name: stage for stats in sink.payloads("stats") for name, stage in stats.stages.items()}
    assert set(stages) == {"detect", "track"}  # there is no face to track
    assert 0 <= stages["detect"].p50 <= stages["detect"].p95
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert last.rss_mb == pytest.approx(pages * os.sysconf("SC_PAGESIZE") / 1e6, rel=0.2)


def test_paused_camera_is_stalled_then_online() -> None:
    sink = ListSink()
    with pytest.raises(SourceLostError, match="unplugged"):
        make_runner(ScriptedCamera("11-ss-11e"), sink).run()
    assert sink.payloads("camera") == ["online", "stalled", "online", "offline"]
    assert sink.payloads("availability") == ["online", "offline"]


def test_switched_off_runner_ends_faces_and_skips_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    camera = make_source(CameraSettings(source="demo"), realtime=False)
    sink = ListSink()
    runner = make_runner(camera, sink)
    read = camera.read
    numbers: list[int] = []

    def switching(not_before: float = 0.0) -> Frame | None:
        # No more notices than frames: a hanging camera must be noticed even while the runner is switched off.
        wait_for(lambda: [*notices.queue].count("WATCHDOG=1") == len(numbers), "a notice for each frame")
        frame = read(not_before)
        numbers.append(frame.number if frame else -1)
        if numbers[-1] in {40, 80}:
            runner.enable(numbers[-1] == 80)
        return frame

    monkeypatch.setattr(camera, "read", switching)
    with systemd_notices(tmp_path, monkeypatch) as notices:
        summary = runner.run()
    assert sink.payloads("enabled/state") == ["ON", "OFF", "ON"]
    assert sink.payloads("camera")[-1] == "offline"
    # It is offline while it is opened, if that takes a while.
    assert [status for status in sink.payloads("camera") if status != "offline"] == ["online", "disabled", "online"]
    assert summary.frames == 80
    assert len(numbers) == 121
    off, on = [number for number, message in enumerate(sink.messages) if message.topic.endswith("enabled/state")][1:]
    between = [message.payload for message in sink.messages[off:on]]
    before = [event.event_type for event in sink.payloads("event") if event.time < 4.2]
    assert before.count("end") == before.count("new") > 0
    assert not [payload for payload in between if isinstance(payload, Event)]


def test_runner_that_starts_switched_off_processes_no_frame_and_reports_no_faces() -> None:
    sink = ListSink()
    runner = make_runner(make_source(CameraSettings(source="demo"), realtime=False), sink)
    runner.enable(wanted=False)
    assert runner.run(seconds=3).frames == 0
    assert sink.payloads("enabled/state") == ["OFF"]
    assert [state.faces for state in sink.payloads("state")] == [0]
    assert sink.payloads("event") == []


class ReactingSink(ListSink):
    """A sink that does something with each message, on the runner's thread."""

    on_message: Callable[[Message], None] | None = None

    def publish(self, *messages: Message) -> None:
        super().publish(*messages)
        for message in messages:
            if self.on_message:
                self.on_message(message)


def test_off_closes_the_camera_and_feeds_the_watchdog_until_on_opens_it(
    usb: Hardware, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sink, camera = ReactingSink(), make_source(CameraSettings(source="/dev/video9"))
    runner = make_runner(camera, sink, stats_interval=0.05)
    retrieved = 0

    def react(message: Message) -> None:
        nonlocal retrieved
        switched, count = sink.payloads("enabled/state"), len(sink.payloads("stats"))
        if message.payload == "OFF":
            assert not usb.instances[0].is_open, "it must be closed before OFF is reported"
            retrieved = usb.instances[0].retrieved
        if switched == ["ON"] and count == 3:
            runner.enable(wanted=False)
        elif switched == ["ON", "OFF"] and count == 10:
            assert len(usb.instances) == 1
            assert usb.instances[0].retrieved == retrieved
            runner.enable(wanted=True)
        elif switched == ["ON", "OFF", "ON"] and message.payload == "online":
            runner.stop(signal.SIGTERM)

    sink.on_message = react
    with systemd_notices(tmp_path, monkeypatch) as notices:
        runner.run()
        camera.close()
    assert sink.payloads("camera")[-1] == "offline"
    # It is offline while it is opened, if that takes a while.
    assert [status for status in sink.payloads("camera") if status != "offline"] == ["online", "disabled", "online"]
    off = sink.payloads("stats")[4:10]
    assert {(stats.fps, stats.dropped) for stats in off} == {(0.0, off[0].dropped)}
    assert [*notices.queue].count("READY=1") == 1
    assert [*notices.queue].count("WATCHDOG=1") >= runner.summary.frames + len(off)


def test_runner_that_starts_switched_off_is_ready_and_opens_no_camera(
    usb: Hardware, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sink = ListSink()
    runner = make_runner(make_source(CameraSettings(source="/dev/video9")), sink, stats_interval=0.05)
    runner.enable(wanted=False)
    with systemd_notices(tmp_path, monkeypatch) as notices:
        runner.run(seconds=0.5)
    assert not usb.instances
    assert sink.payloads("camera") == ["disabled", "offline"]
    assert [state.faces for state in sink.payloads("state")] == [0]
    assert {stats.fps for stats in sink.payloads("stats")} == {0.0}
    assert notices.queue[0] in {"READY=1", "WATCHDOG=1"}
    assert {"READY=1", "WATCHDOG=1", "STOPPING=1"} <= set(notices.queue)


def test_limits_frames_of_live_source_and_processes_every_frame_of_video() -> None:
    camera = ScriptedCamera("1" * 11 + "e")
    runner = make_runner(camera, ListSink(), idle_fps=20.0)
    with pytest.raises(SourceLostError):
        runner.run()
    assert runner.summary.frames == 11
    assert np.diff(camera.times) == pytest.approx([1 / 20] * 10)
    video = make_runner(make_source(CameraSettings(source="demo"), realtime=False), ListSink(), idle_fps=0.001)
    assert video.run(seconds=3).frames == 30


def test_counts_no_frame_while_off_and_the_others_as_skipped_or_dropped(
    usb: Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = make_source(CameraSettings(source="/dev/video9"), wait=True)
    runner = make_runner(camera, ListSink(), idle_fps=50.0)
    read, numbers = camera.read, []

    def switching(not_before: float = 0.0) -> Frame | None:
        frame = read(not_before)
        assert frame
        numbers.append(frame.number)
        if len(numbers) == 10:
            runner.enable(wanted=False)
            threading.Timer(0.5, runner.enable, (True,)).start()
        if len(numbers) == 30:
            runner.stop(signal.SIGUSR1)
        return frame

    monkeypatch.setattr(camera, "read", switching)
    summary = runner.run()
    camera.close()
    assert len(usb.instances) == 2
    assert summary.frames == len(numbers) == 30
    assert summary.frames + summary.skipped + summary.dropped == numbers[-1] - numbers[0] + 1


def test_run_ends_quietly_when_every_sink_is_closed() -> None:
    sink = ListSink(max_messages=5)
    summary = make_runner(make_source(CameraSettings(source="demo"), realtime=False), sink).run()
    assert len(sink.messages) == 5
    assert summary.frames < 120


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_in_order_and_handlers_are_restored(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    sink = ListSink(at_event=lambda: os.kill(os.getpid(), number))
    summary = make_runner(make_source(CameraSettings(source="demo")), sink).run()
    assert summary.frames < demo.FRAMES
    assert summary.interrupted == (number == signal.SIGINT)
    assert [event.event_type for event in sink.payloads("event")].count("end") == summary.events["new"]
    assert sink.payloads("availability") == ["online", "offline"]
    assert signal.getsignal(number) == before


def test_ignored_signals_stay_ignored() -> None:
    run = "trap '' INT HUP; exec \"$0\" -m fer_edge.cli run --source demo --realtime --config /dev/null"
    with Process[bytes](["/bin/sh", "-c", run, sys.executable], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        assert it.stdout is not None
        it.stdout.readline()
        for number in (signal.SIGINT, signal.SIGHUP):
            it.send_signal(number)
        for line in it.stdout:
            if b"/event" in line:
                break
        it.terminate()
        log = it.communicate(timeout=60)[1]
        assert it.returncode == 0
        assert b"reloaded" not in log


def test_notifies_systemd_after_first_frame_and_each_processed_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with systemd_notices(tmp_path, monkeypatch) as notices:
        with pytest.raises(SourceLostError):
            make_runner(ScriptedCamera("--1ss-1e"), ListSink()).run()
        expected = ["READY=1", "STATUS=model edge-0", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]
        assert [notices.get(timeout=60) for _ in expected] == expected


def fill(address: str) -> None:
    """Send datagrams until the receiver takes no more."""
    with suppress(BlockingIOError):
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto(b"unread", address)


def test_systemd_that_reads_no_notices_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        fill(address)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        runner = make_runner(make_source(CameraSettings(source="demo"), realtime=False), ListSink())
        assert runner.run(seconds=0.5).frames == 5


def test_undeliverable_notice_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    assert (
        make_runner(make_source(CameraSettings(source="demo"), realtime=False), ListSink()).run(seconds=0.5).frames == 5
    )


def test_lost_camera_is_an_error_even_if_every_sink_is_closed() -> None:
    with pytest.raises(SourceLostError, match="unplugged"):
        make_runner(ScriptedCamera("11e"), ListSink(max_messages=6)).run()


def test_output_line_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with path.open("wb") as file:
        sink = JsonLinesSink(file)
        sink.publish(MessageFactory("kitchen").availability("online"))
        sink.publish(MessageFactory("kitchen").info(INFO))
        sink.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"topic": "fer-edge/kitchen/availability", "payload": "online", "qos": 1, "retain": True}
    assert second["payload"] == {
        "schema": 1,
        "version": "0",
        "model": "edge",
        "model_sha256": "0",
        "labels": ["a", "b"],
        "collects_faces": False,
    }


@pytest.mark.parametrize("name", ["", "a/b", "a b", "+", "#", "x" * 65])
def test_rejects_invalid_node_names(name: str) -> None:
    with pytest.raises(InputError, match="--node"):
        MessageFactory(name)


def test_whoever_may_switch_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sink = ListSink()
    runner = make_runner(make_source(CameraSettings(source="demo"), realtime=False), sink)
    for number in range(40):
        runner.enable(wanted=bool(number % 2))
        runner.apply_pending()
    assert len(sink.payloads("enabled/state")) == 40
    assert caplog.text.count("switched o") == 10
    runner.run(seconds=0.1)
    assert caplog.messages[-1] == "30 more commands were not logged"
