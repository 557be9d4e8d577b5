"""The runner: a camera, a pipeline and sinks, from the first frame to ``offline``."""

from __future__ import annotations

import signal
import time as clock
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.errors import SourceLostError
from fer_edge.system import resident_mb, temperature_c, throttled_flags
from fer_edge_device.frames import NoFrameYet
from fer_edge_device.messages import Percentiles, Stats
from fer_edge_device.service import notify
from fer_edge_device.sinks import SinkClosed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from fer_edge_device.frames import Camera, Frame
    from fer_edge_device.messages import CameraStatus, Event, Info, Message, State, Topics
    from fer_edge_device.pipeline import Pipeline
    from fer_edge_device.sinks import Sink


@dataclass(slots=True)
class Summary:
    """A run in figures.

    Attributes:
        frames: frames that went through the pipeline.
        seconds: how long that took.
        events: how many events of each type were published.
        interrupted: whether Ctrl-C ended the run.
    """

    frames: int = 0
    seconds: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False


class Runner:
    """Feeds frames to a pipeline and what comes out to sinks."""

    def __init__(
        self,
        camera: Camera,
        pipeline: Pipeline,
        topics: Topics,
        info: Info,
        sinks: Sequence[Sink],
        *,
        stats_every: float = 10.0,
        stalled_after: float = 2.0,
        give_up_after: float = 10.0,
    ) -> None:
        """Put the parts together.

        Args:
            camera: where frames come from.
            pipeline: what makes events of them.
            topics: what wraps payloads into messages.
            info: what is running, told once at the start.
            sinks: where messages go.
            stats_every: seconds of real time between two `stats` messages.
            stalled_after: seconds without a frame after which the camera is reported as stalled.
            give_up_after: seconds without a frame after which the run fails.
        """
        self._camera, self._pipeline, self._topics = camera, pipeline, topics
        self._info, self._sinks, self._stats_every = info, sinks, stats_every
        self._stalled_after, self._give_up_after = stalled_after, give_up_after
        self._camera_told: CameraStatus | None = None
        self._signal = 0

    def run(self, seconds: float | None = None) -> Summary:
        """Run until the source ends, a signal comes or nobody listens any more.

        Whatever ends it, ``offline`` is the last message.

        Args:
            seconds: stop after this much of the source's time.

        Raises:
            SourceLostError: the camera failed.
        """
        summary = Summary()
        began = clock.monotonic()
        with _stop_signals(self):
            try:
                self._publish(self._topics.availability("online"))
                self._publish(self._topics.info(self._info))
                try:
                    self._loop(summary, seconds)
                finally:
                    # Nobody listening any more must not hide why the run ended.
                    with suppress(SinkClosed):
                        self._tell(summary, *self._pipeline.finish())
                        self._tell_camera("offline")
                        self._publish(self._topics.availability("offline"))
            except SinkClosed:
                pass
            finally:
                notify("STOPPING=1")
        summary.seconds = clock.monotonic() - began
        summary.interrupted = self._signal == signal.SIGINT
        return summary

    def stop(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002 - a signal handler's shape
        """End the run after the frame under way; a second signal of the same kind kills."""
        self._signal = number
        signal.signal(number, signal.SIG_DFL)

    def _loop(self, summary: Summary, seconds: float | None) -> None:
        first = last = 0.0
        told_stats, frames_then = clock.monotonic(), 0
        next_number, dropped = 0, 0
        while (frame := self._next_frame()) is not None:
            if summary.frames == 0:
                first = frame.time
                notify("READY=1")
            elif self._camera.live:
                dropped += frame.number - next_number
            if seconds is not None and frame.time - first >= seconds:
                break
            next_number, last = frame.number + 1, frame.time + frame.epoch
            self._tell(summary, *self._pipeline.step(frame))
            summary.frames += 1
            notify("WATCHDOG=1")
            now = clock.monotonic()
            if now - told_stats >= self._stats_every:
                self._tell_stats(last, (summary.frames - frames_then) / (now - told_stats), dropped)
                told_stats, frames_then = now, summary.frames
        if summary.frames > frames_then:
            rate = (summary.frames - frames_then) / max(clock.monotonic() - told_stats, 1e-9)
            self._tell_stats(last, rate, dropped)

    def _next_frame(self) -> Frame | None:
        """Wait for a frame; None when the source has ended or the run is to end."""
        waiting_since = clock.monotonic()
        while not self._signal:
            try:
                frame = self._camera.read()
            except NoFrameYet as error:
                if not self._camera.live:  # a film's own pause
                    continue
                waited = clock.monotonic() - waiting_since
                if waited >= self._give_up_after:
                    raise SourceLostError(f"the camera gave no frame for {waited:.0f} s; is it unplugged?") from error
                if waited >= self._stalled_after:
                    self._tell_camera("stalled")
            else:
                if frame is not None:
                    self._tell_camera("online")
                return frame
        return None

    def _tell_camera(self, status: CameraStatus) -> None:
        if status != self._camera_told:
            self._camera_told = status
            self._publish(self._topics.camera(status))

    def _tell(self, summary: Summary, events: Sequence[Event], state: State | None) -> None:
        for event in events:
            summary.events[event.event_type] += 1
            self._publish(self._topics.event(event))
        if state is not None:
            self._publish(self._topics.state(state))

    def _tell_stats(self, time: float, fps: float, dropped: int) -> None:
        stages = {}
        for stage, taken in self._pipeline.milliseconds.items():
            if taken:
                p50, p95 = np.percentile(taken, (50, 95))
                stages[stage] = Percentiles(round(float(p50), 3), round(float(p95), 3))
            taken.clear()
        stats = Stats(
            time=round(time, 3),
            fps=round(fps, 2),
            stages=stages,
            dropped=dropped,
            temp_c=temperature_c(),
            throttled=throttled_flags(),
            rss_mb=round(resident_mb(), 1),
            queued=0,
        )
        self._publish(self._topics.stats(stats))

    def _publish(self, message: Message) -> None:
        for sink in self._sinks:
            sink.publish(message)


@contextmanager
def _stop_signals(runner: Runner) -> Iterator[None]:
    """Let Ctrl-C and a service manager's stop end the run in order."""
    before = {number: signal.signal(number, runner.stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
