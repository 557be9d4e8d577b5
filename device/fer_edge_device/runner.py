"""The runner: reads frames, gives them to the pipeline, and publishes the results."""

from __future__ import annotations

import logging
import math
import signal
import time as clock
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fer_edge.utils.system import resident_mb, temperature_c, throttled_flags
from fer_edge.utils.words import counted
from fer_edge_device.capture.base import NoFrameYet, Pace
from fer_edge_device.logging import RateLimitedLog
from fer_edge_device.messages import Percentiles, Stats
from fer_edge_device.sd_notify import MODEL_STATUS, notify, reloading, status, watchdog
from fer_edge_device.sinks import SinkClosed, output_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import FrameType

    from fer_edge_device.capture.base import Frame, SwitchableSource
    from fer_edge_device.config.settings import EventsSettings
    from fer_edge_device.messages import CameraStatus, Event, Info, Message, MessageFactory, State
    from fer_edge_device.pipeline.pipeline import Pipeline
    from fer_edge_device.sinks import Observer, Sink, Viewer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """Who this runner is.

    Attributes:
        messages: makes its messages, under its topics.
        info: what is running; published at the start.
        discovery: announces it to Home Assistant; None does not.
    """

    messages: MessageFactory
    info: Info
    discovery: Message | None = None


@dataclass(slots=True)
class RunSummary:
    """A run in figures.

    Attributes:
        frames: number of frames that were processed.
        skipped: number of frames of a live source that were left out, because ``camera.fps`` and ``camera.idle_fps``
            ask for fewer than it gives.
        dropped: number of frames of a live source that should have been processed, but came while another one was.
        seconds: duration of the run.
        events: number of published events of each type.
        interrupted: whether Ctrl-C ended the run.
        restart: whether the run ended because a restart was asked for.
        queued: number of events that were not sent to the broker, also those of earlier runs.
        outbox: file in which they wait; None without a broker.
    """

    frames: int = 0
    skipped: int = 0
    dropped: int = 0
    seconds: float = 0.0
    events: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    restart: bool = False
    queued: int = 0
    outbox: Path | None = None


class Runner:
    """Moves frames from a source through a pipeline, and publishes the results to sinks.

    Attributes:
        pipeline: turns frames into events.
        identity: who this runner is.
        summary: the run so far.
    """

    def __init__(
        self,
        source: SwitchableSource,
        pipeline: Pipeline,
        identity: NodeIdentity,
        sinks: Sequence[Sink] = (),
        *,
        observers: Sequence[Observer] = (),
        viewer: Viewer | None = None,
        stats_interval: float = 10.0,
        on_reload: Callable[[], None] | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            source: gives the frames; `run` opens it. A live one is closed while the runner is switched off.
            pipeline: turns them into events.
            identity: who this runner is.
            sinks: where to publish; the run ends when all of them are closed.
            observers: are told every message, too; the run does not depend on them.
            viewer: shows frames; None: nobody looks.
            stats_interval: seconds of real time between two ``stats`` messages.
            on_reload: called on SIGHUP, between two frames; None leaves that signal as it is.
        """
        self.pipeline, self.identity = pipeline, identity
        self.summary = RunSummary()
        self._source, self._sinks, self._observers = source, list(sinks), observers
        self._viewer = viewer
        self._stats_interval, self._on_reload = stats_interval, on_reload
        self._published_status: CameraStatus | None = None
        self._enabled = self._enabled_wanted = True
        self._events_wanted = pipeline.events_settings
        self._command_log = RateLimitedLog(logger, logging.INFO, "command")
        self._stop_signal = 0
        self._restart_wanted = False
        self._camera_restart_wanted = False
        self._reload_wanted = False
        self._pace = Pace()
        self._ready = False
        self._started_at: float | None = None  # on the source's clock
        self._max_seconds = math.inf
        self._stats_at, self._stats_frames = clock.monotonic(), 0

    def run(self, seconds: float | None = None) -> RunSummary:
        """Run until the source ends, a signal arrives or every sink is closed.

        However the run ends, ``offline`` is the last message.

        Args:
            seconds: stop after this much of the source's time.

        Raises:
            SourceError: the source cannot be opened, and is not to be tried again.
            SourceLostError: the camera failed.
            FerEdgeError: messages cannot be written to standard output and have no other sink.
        """
        start = self._stats_at = clock.monotonic()
        self._enabled, self._max_seconds = self._enabled_wanted, math.inf if seconds is None else seconds
        self.pipeline.change_events(self._events_wanted)
        if self._enabled:
            self._source.open()
        with self._signal_handlers():
            try:
                self.announce()
                try:
                    self._loop()
                finally:
                    # A closed sink must not hide why the run has ended.
                    with suppress(SinkClosed):
                        self.publish(*self.pipeline.finish())
                        self.announce_offline()
            except SinkClosed as closed:
                if str(closed):
                    raise output_error(str(closed)) from None
            finally:
                self._command_log.flush(at_end=True)
                self.summary.restart = self._restart_wanted and not self._stop_signal
                if self.summary.restart:
                    reloading()  # to systemd, the process goes on
                else:
                    notify("STOPPING=1")
        self.summary.seconds = clock.monotonic() - start
        self.summary.interrupted = self._stop_signal == signal.SIGINT
        return self.summary

    def stop(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002 - a signal handler's shape
        """End the run after the present frame; a second signal of the same kind kills the process."""
        self._stop_signal = number
        signal.signal(number, signal.SIG_DFL)

    @property
    def stopping(self) -> bool:
        """Whether a signal has asked the run to end."""
        return bool(self._stop_signal)

    @property
    def enabled(self) -> bool:
        """Whether frames are to be taken and processed; `enable` sets it."""
        return self._enabled_wanted

    def enable(self, wanted: bool) -> None:  # noqa: FBT001 - a switch
        """Process frames, or close the camera. May be called from any thread."""
        self._enabled_wanted = wanted

    def change_events(self, settings: EventsSettings) -> None:
        """Make events by other settings from the next frame on. May be called from any thread."""
        self._events_wanted = settings

    def request_restart(self) -> None:
        """End the run after the present frame, and let its summary ask for a restart. May be called from any thread."""
        self._restart_wanted = True

    def request_camera_restart(self) -> None:
        """Close the camera and open it again, unless it is switched off. May be called from any thread."""
        self._camera_restart_wanted = True

    def use_sinks(self, sinks: Sequence[Sink]) -> None:
        """Publish to these sinks from now on."""
        self._sinks = list(sinks)

    def change_identity(self, identity: NodeIdentity, *, stats_interval: float, new_sinks: bool) -> None:
        """Go on as another node, or with another model, and publish that.

        Args:
            identity: who this runner is from now on.
            stats_interval: as in ``__init__``.
            new_sinks: whether the present sinks have had no message yet.
        """
        self.identity, self._stats_interval = identity, stats_interval
        self._show_status()
        if new_sinks:
            self.announce()
        else:
            self._publish_message(identity.messages.info(identity.info))
            self._publish_message(identity.messages.settings(self.pipeline.events_settings))
            if identity.discovery:  # the new model may have other labels
                self._publish_message(identity.discovery)

    def announce(self) -> None:
        """Publish the identity and the state of this runner, and then that it is online.

        In this order, messages that the broker retains from a killed run are never taken for current ones.
        """
        messages = self.identity.messages
        now = round(clock.time(), 3) if self._source.live else 0.0
        self._publish_message(messages.state(self.pipeline.current_state(now)))
        self._publish_message(messages.info(self.identity.info))
        self._publish_message(messages.enabled(self._enabled))
        self._publish_message(messages.settings(self.pipeline.events_settings))
        if self.identity.discovery:
            self._publish_message(self.identity.discovery)
        self._published_status = self._camera_status
        self._publish_message(messages.camera(self._published_status))
        self._publish_message(messages.availability("online"))

    def announce_offline(self) -> None:
        """Publish that this runner is offline."""
        self._publish_camera("offline")
        self._publish_message(self.identity.messages.availability("offline"))

    def publish(self, events: Sequence[Event], state: State | None) -> None:
        """Publish what the pipeline returned for a frame."""
        self.summary.events.update(event.event_type for event in events)
        messages = [self.identity.messages.event(event) for event in events]
        if state is not None:
            messages.append(self.identity.messages.state(state))
        if messages:
            self._publish_message(*messages)

    def _loop(self) -> None:
        next_number: int | None = None
        last: float | None = None
        while (frame := self._next_frame()) is not None:
            self._get_ready()
            if self._source.live and next_number is not None:
                self.summary.dropped += frame.dropped
                self.summary.skipped += frame.number - next_number - frame.dropped
            if self._is_over(frame.time):
                break
            next_number, last = frame.number + 1, frame.time + frame.epoch
            if self._enabled:
                self.publish(*self.pipeline.step(frame))
                self.summary.frames += 1
                if self._viewer and self._viewer.wants_frame():
                    self._viewer.show(frame.gray, self.pipeline.visible_faces())
            else:
                self.publish([], self.pipeline.skip(frame.time, frame.epoch))
            watchdog()
            self._publish_stats_if_due(last)
        if last is not None and self.summary.frames > self._stats_frames:
            self._publish_stats(last)

    def _get_ready(self) -> None:
        if not self._ready:
            self._ready = True
            notify("READY=1")
            self._show_status()

    def _is_over(self, time: float) -> bool:
        """Return whether the run has lasted long enough.

        Args:
            time: on the source's clock.
        """
        if self._started_at is None:
            self._started_at = time
        return time - self._started_at >= self._max_seconds

    def _next_frame(self) -> Frame | None:
        """Wait for the next frame; None when the source has ended or the run must end."""
        while True:
            self.apply_pending()
            if self._stop_signal or self._restart_wanted:
                return None
            interval = self.pipeline.frame_interval
            try:
                frame = self._source.read(self._pace.next_time(interval))
            except NoFrameYet:
                camera_status = self._source.status
                self._publish_camera(camera_status)
                # A camera that should give frames and does not must starve the watchdog. One that is switched off, or
                # still being opened, which has time-outs of its own, must not.
                if camera_status in {"disabled", "offline"}:
                    watchdog()
                if not self._enabled:
                    self._tick_while_off()
                    if self._is_over(clock.monotonic()):  # the clock of live sources
                        return None
                continue
            if frame is not None:
                self._pace.take(frame.time, interval)
                self._publish_camera("online" if self._enabled else "disabled")
            return frame

    def _tick_while_off(self) -> None:
        """Do what goes on while a live source is closed."""
        now = clock.monotonic()
        epoch = clock.time() - now
        self._get_ready()
        self.publish([], self.pipeline.skip(now, epoch))
        self._publish_stats_if_due(now + epoch)

    def apply_pending(self) -> None:
        """Apply what signals and the privacy switch have asked for since the last frame."""
        self._command_log.flush()
        if self._reload_wanted and self._on_reload:
            self._reload_wanted = False
            self._on_reload()
        if (events := self._events_wanted) != self.pipeline.events_settings:
            self.pipeline.change_events(events)
            self._publish_message(self.identity.messages.settings(events))
            self._command_log.log(f"settings changed: margin {events.margin:g}, hold_s {events.hold_s:g}")
        if self._enabled_wanted != self._enabled:
            self._enabled = self._enabled_wanted
            if self._enabled:
                self._source.open()
            else:
                if self._source.live:
                    self._source.close()
                self.publish(*self.pipeline.finish())
                self._publish_camera(self._camera_status)
            self._publish_message(self.identity.messages.enabled(self._enabled))
            self._command_log.log(f"switched {'on' if self._enabled else f'off: {self._describe_off()}'}")

        if self._camera_restart_wanted:
            self._camera_restart_wanted = False
            if self._enabled and self._source.live:
                self._command_log.log("the camera is opened again")
                self._source.close()
                self._source.open()

    def _describe_off(self) -> str:
        return "the camera is closed" if self._source.status == "disabled" else "no frame is processed"

    @property
    def _camera_status(self) -> CameraStatus:
        """The status of the source; a video is played on while the runner is switched off, but not used."""
        return self._source.status if self._source.live or self._enabled else "disabled"

    def _publish_camera(self, camera_status: CameraStatus) -> None:
        if camera_status != self._published_status:
            self._published_status = camera_status
            self._publish_message(self.identity.messages.camera(camera_status))

    def _publish_stats_if_due(self, time: float) -> None:
        if clock.monotonic() - self._stats_at >= self._stats_interval:
            self._publish_stats(time)

    def _publish_stats(self, time: float) -> None:
        now = clock.monotonic()
        fps = (self.summary.frames - self._stats_frames) / max(now - self._stats_at, 1e-9)
        self._stats_at, self._stats_frames = now, self.summary.frames
        stages = {}
        for stage, milliseconds in self.pipeline.milliseconds.items():
            if milliseconds:
                stages[stage] = _percentiles(milliseconds)
            milliseconds.clear()
        stats = Stats(
            time=round(time, 3),
            fps=round(fps, 2),
            stages=stages,
            skipped=self.summary.skipped,
            dropped=self.summary.dropped,
            temp_c=temperature_c(),
            throttled=throttled_flags(),
            rss_mb=None if (resident := resident_mb()) is None else round(resident, 1),
            queued=sum(sink.queued for sink in self._sinks),
            dropped_events=sum(sink.dropped for sink in self._sinks),
        )
        self._publish_message(self.identity.messages.stats(stats))
        self._show_status(f"{fps:.1f} frames per second, {counted(stats.queued, 'event')} waiting to be sent; ")

    def _show_status(self, figures: str = "") -> None:
        """Tell systemd how this runner is, and which model it runs."""
        status(f"{figures}{MODEL_STATUS}{self.identity.info.model_id}")

    def _publish_message(self, *messages: Message) -> None:
        for observer in self._observers:
            observer.observe(*messages)
        for sink in [*self._sinks]:
            try:
                sink.publish(*messages)
            except SinkClosed as closed:
                self._sinks.remove(sink)
                if not self._sinks:
                    raise
                if str(closed):
                    logger.error(  # noqa: TRY400 - the line says everything
                        "standard output: %s; from now on messages go to the broker only", closed
                    )
        if not self._sinks:
            raise SinkClosed

    @contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the run in order, and SIGHUP reload the configuration if that is possible.

        An ignored signal stays ignored: a shell starts background jobs with SIGINT ignored, and nohup with SIGHUP.
        """
        handlers = {signal.SIGINT: self.stop, signal.SIGTERM: self.stop}
        if self._on_reload:
            handlers[signal.SIGHUP] = self._request_reload
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

    def _request_reload(self, number: int, frame: FrameType | None = None) -> None:  # noqa: ARG002
        self._reload_wanted = True


def _percentiles(values: Iterable[float]) -> Percentiles:
    """Return the median and the 95th percentile by nearest rank.

    `numpy.percentile` would load masked arrays, which cost 2 MB of memory.
    """
    ordered = sorted(values)
    return Percentiles(*(round(ordered[int((len(ordered) - 1) * share + 0.5)], 3) for share in (0.5, 0.95)))
