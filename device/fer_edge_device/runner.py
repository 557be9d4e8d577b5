"""The runner: a camera, a pipeline and sinks, from the first frame to ``offline``."""

from __future__ import annotations

import logging
import signal
import time as clock
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fer_edge.errors import FerEdgeError
from fer_edge.utils.system import resident_mb, temperature_c, throttled_flags
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.messages import Percentiles, Stats
from fer_edge_device.sd_notify import notify, status
from fer_edge_device.sinks import SinkClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType

    from fer_edge_device.capture.base import Frame, FrameSource
    from fer_edge_device.messages import CameraStatus, Event, Info, Message, MessageFactory, State
    from fer_edge_device.pipeline.pipeline import Pipeline
    from fer_edge_device.sinks import Sink

logger = logging.getLogger(__name__)

_NAP = 0.1  # seconds after which a signal or a switch is looked at, at the latest


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """As what a runner speaks.

    Attributes:
        topics: where its messages go.
        info: what is running, told at the start.
        announcement: what Home Assistant is told of it; None tells nothing.
    """

    topics: MessageFactory
    info: Info
    announcement: Message | None = None


@dataclass(slots=True)
class RunSummary:
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
    """Feeds frames to a pipeline and what comes out to sinks.

    Attributes:
        pipeline: what makes events of frames.
        node: as what it speaks.
        summary: the run so far.
    """

    def __init__(
        self,
        camera: FrameSource,
        pipeline: Pipeline,
        node: NodeIdentity,
        sinks: Sequence[Sink] = (),
        *,
        stats_every: float = 10.0,
        reload: Callable[[], None] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            camera: where frames come from.
            pipeline: what makes events of them.
            node: as what it speaks.
            sinks: where messages go; the run ends when all of them are closed.
            stats_every: seconds of real time between two `stats` messages.
            reload: what to do on SIGHUP, between two frames; without it that signal keeps its usual meaning.
        """
        self.pipeline, self.node = pipeline, node
        self.summary = RunSummary()
        self._camera, self._sinks = camera, list(sinks)
        self._stats_every, self._reload = stats_every, reload
        self._camera_told: CameraStatus | None = None
        self._enabled = self._enabled_wanted = True
        self._signal = 0
        self._hangup = False
        self._looked = 0.0

    def run(self, seconds: float | None = None) -> RunSummary:
        """Run until the source ends, a signal comes or nobody listens any more.

        Whatever ends it, ``offline`` is the last message.

        Args:
            seconds: stop after this much of the source's time.

        Raises:
            SourceLostError: the camera failed.
            FerEdgeError: messages cannot be written where alone they go.
        """
        began = clock.monotonic()
        self._enabled = self._enabled_wanted
        with self._signals():
            try:
                self.greet()
                try:
                    self._loop(seconds)
                finally:
                    # Nobody listening any more must not hide why the run ended.
                    with suppress(SinkClosed):
                        self._tell(*self.pipeline.finish())
                        self.say_goodbye()
            except SinkClosed as closed:
                if str(closed):
                    raise FerEdgeError(f"standard output: {closed}; messages go nowhere else") from None
            finally:
                notify("STOPPING=1")
        self.summary.seconds = clock.monotonic() - began
        self.summary.interrupted = self._signal == signal.SIGINT
        return self.summary

    def stop(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002 - a signal handler's shape
        """End the run after the frame under way; a second signal of the same kind kills."""
        self._signal = number
        signal.signal(number, signal.SIG_DFL)

    @property
    def enabled(self) -> bool:
        """Whether frames are to be looked at, as was asked for last."""
        return self._enabled_wanted

    def enable(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Look at frames, or let them pass unseen; may be called from any thread."""
        self._enabled_wanted = wanted

    def send_to(self, sinks: Sequence[Sink]) -> None:
        """Give messages to these sinks from now on."""
        self._sinks = list(sinks)

    def change(self, node: NodeIdentity, *, stats_every: float, moved: bool) -> None:
        """Go on as another node, or with another model; whoever listens is told.

        Args:
            node: as what it speaks from now on.
            stats_every: as at the start.
            moved: whether those who listen now have heard nothing yet.
        """
        self.node, self._stats_every = node, stats_every
        if moved:
            self.pipeline.tell_state_anew()
            self.greet()
        else:
            self._publish(node.topics.info(node.info))
            if node.announcement:  # another model may have other labels
                self._publish(node.announcement)

    def greet(self) -> None:
        """Say what is here, and how it is."""
        topics = self.node.topics
        self._publish(topics.availability("online"))
        self._publish(topics.info(self.node.info))
        self._publish(topics.enabled(self._enabled))
        if self.node.announcement:
            self._publish(self.node.announcement)
        if self._camera_told:
            self._publish(topics.camera(self._camera_told))

    def say_goodbye(self) -> None:
        """Say that nothing is here any more."""
        self._publish(self.node.topics.camera("offline"))
        self._publish(self.node.topics.availability("offline"))

    def _loop(self, seconds: float | None) -> None:
        first = last = None
        told_stats, frames_then = clock.monotonic(), 0
        next_number, dropped = 0, 0
        while (frame := self._next_frame()) is not None:
            self._looked = clock.monotonic()
            if first is None:
                first = frame.time
                notify("READY=1")
            elif self._camera.live:
                dropped += frame.number - next_number
            if seconds is not None and frame.time - first >= seconds:
                break
            next_number, last = frame.number + 1, frame.time + frame.epoch
            if self._enabled:
                self._tell(*self.pipeline.step(frame))
                self.summary.frames += 1
            else:
                self._tell([], self.pipeline.let_pass(frame))
            notify("WATCHDOG=1")
            now = clock.monotonic()
            if now - told_stats >= self._stats_every:
                self._tell_stats(last, (self.summary.frames - frames_then) / (now - told_stats), dropped)
                told_stats, frames_then = now, self.summary.frames
        if last is not None and self.summary.frames > frames_then:
            rate = (self.summary.frames - frames_then) / max(clock.monotonic() - told_stats, 1e-9)
            self._tell_stats(last, rate, dropped)

    def _next_frame(self) -> Frame | None:
        """Wait for a frame; None when the source has ended or the run is to end."""
        while True:
            self._obey()
            if self._signal:
                return None
            # A video has every frame looked at; of a live source, no more than are of use.
            left = self._looked + self.pipeline.rest - clock.monotonic() if self._camera.live else 0.0
            if left > 0:
                clock.sleep(min(left, _NAP))
                continue
            try:
                frame = self._camera.read()
            except NoFrameYet:
                self._tell_camera(self._camera.status)
                continue
            if frame is not None:
                self._tell_camera("online")
            return frame

    def _obey(self) -> None:
        """Do what was asked for meanwhile: a reload, the switch."""
        if self._hangup and self._reload:
            self._hangup = False
            self._reload()
        if self._enabled_wanted != self._enabled:
            self._enabled = self._enabled_wanted
            if not self._enabled:
                self._tell(*self.pipeline.finish())
            self._publish(self.node.topics.enabled(self._enabled))
            logger.info("%s looking at frames", "began" if self._enabled else "stopped")

    def _tell_camera(self, status: CameraStatus) -> None:
        if status != self._camera_told:
            self._camera_told = status
            self._publish(self.node.topics.camera(status))

    def _tell(self, events: Sequence[Event], state: State | None) -> None:
        for event in events:
            self.summary.events[event.event_type] += 1
            self._publish(self.node.topics.event(event))
        if state is not None:
            self._publish(self.node.topics.state(state))

    def _tell_stats(self, time: float, fps: float, dropped: int) -> None:
        stages = {}
        for stage, taken in self.pipeline.milliseconds.items():
            if taken:
                stages[stage] = _percentiles(taken)
            taken.clear()
        stats = Stats(
            time=round(time, 3),
            fps=round(fps, 2),
            stages=stages,
            dropped=dropped,
            temp_c=temperature_c(),
            throttled=throttled_flags(),
            rss_mb=round(resident_mb(), 1),
            queued=sum(sink.queued for sink in self._sinks),
            dropped_events=sum(sink.dropped for sink in self._sinks),
        )
        self._publish(self.node.topics.stats(stats))
        status(f"{fps:.1f} frames a second, {stats.queued} events wait")

    def _publish(self, message: Message) -> None:
        for sink in [*self._sinks]:
            try:
                sink.publish(message)
            except SinkClosed as closed:
                self._sinks.remove(sink)
                if not self._sinks:
                    raise
                if str(closed):
                    logger.error("standard output: %s; no messages go there any more", closed)  # noqa: TRY400
        if not self._sinks:
            raise SinkClosed

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Let Ctrl-C and a service manager's stop end the run in order, and SIGHUP reload where that is possible.

        What is ignored stays so: a shell has what runs in the background ignore Ctrl-C, and nohup the terminal's end.
        """
        handlers = {signal.SIGINT: self.stop, signal.SIGTERM: self.stop}
        if self._reload:
            handlers[signal.SIGHUP] = self._note_hangup
        before = {
            number: signal.signal(number, handler)
            for number, handler in handlers.items()
            if signal.getsignal(number) != signal.SIG_IGN
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note_hangup(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002
        self._hangup = True


def _percentiles(values: Iterable[float]) -> Percentiles:
    """By nearest rank: np.percentile would load NumPy's masked arrays, which take 2 MB and a moment."""
    ordered = sorted(values)
    return Percentiles(*(round(ordered[int((len(ordered) - 1) * share + 0.5)], 3) for share in (0.5, 0.95)))
