"""A runner as the configuration describes it: source, pipeline and sinks, changed on SIGHUP.

`App` is what ``fer-edge run`` does. `events` gives the same events to a Python program, without the service around it.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import cv2
import msgspec

from fer_edge.errors import InputError, SourceLostError
from fer_edge.utils.system import temperature_c
from fer_edge_device import sd_notify
from fer_edge_device.capture.base import paced_frames
from fer_edge_device.capture.factory import make_source, open_source
from fer_edge_device.capture.opencv import reduction
from fer_edge_device.capture.video_file import RealtimePlayback
from fer_edge_device.collect.expiry import Expiry
from fer_edge_device.collect.folder import collect_folder
from fer_edge_device.components import check_collect, check_messages, load_classifier, load_detector
from fer_edge_device.config.settings import RELOADED_KEYS, RESTART_SECTIONS
from fer_edge_device.live_settings import SavedSettings, parse_change
from fer_edge_device.messages import Info, MessageFactory, model_id
from fer_edge_device.mqtt.commands import SwitchCommand
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message
from fer_edge_device.pipeline.pipeline import Pipeline
from fer_edge_device.privacy_switch import PrivacySwitch
from fer_edge_device.runner import NodeIdentity, Runner
from fer_edge_device.sinks import JsonLinesSink, output_error
from fer_edge_device.state_folder import trial_file
from fer_edge_device.web.address import page_url

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.detection.base import TrackingDetector
    from fer_edge_device.capture.base import SwitchableSource
    from fer_edge_device.collect.collector import FaceCollector
    from fer_edge_device.config.settings import Config, EventsSettings
    from fer_edge_device.history.recorder import HistoryRecorder
    from fer_edge_device.messages import Event
    from fer_edge_device.mqtt.sink import MqttSink
    from fer_edge_device.runner import RunSummary
    from fer_edge_device.sinks import Observer, Sink
    from fer_edge_device.web.live_view import LiveView
    from fer_edge_device.web.start import Page

logger = logging.getLogger(__name__)

# Seconds in which the old sinks may send what waits when a reload replaces them. A stop may arrive meanwhile, and then
# the new sinks take up to 10 s. With one second each for what hangs and four for the camera, that is less than
# TimeoutStopSec of the unit.
_OLD_SINKS_TIMEOUT: Final = 2.0


class App:
    """A runner that is built from a configuration, and changed when that is reloaded."""

    def __init__(
        self,
        config: Config,
        *,
        version: str,
        realtime: bool | None = None,
        loop: bool = False,
        is_trial: bool = False,
        read_config: Callable[[], Config] | None = None,
    ) -> None:
        """Load the model, open a video and start to connect to the broker; `run` opens a camera.

        Args:
            config: the configuration.
            version: version of fer-edge, for the ``info`` message.
            realtime: as for `open_source`.
            loop: as for `make_source`.
            is_trial: whether the source takes the place of the configured one. Then the events of a video, a folder or
                the demo have an outbox of their own.
            read_config: reads the configuration again on SIGHUP; None leaves that signal as it is.

        Raises:
            InputError: something in the configuration cannot be used.
            SourceError: there is no such source, or a video cannot be opened.
        """
        self._config, self._version, self._read_config = config, version, read_config
        self._may_shrink = _may_shrink(config)
        self._command_lock = Lock()
        self._saved_settings: SavedSettings | None = None
        self._output: JsonLinesSink | None = None
        self._mqtt: MqttSink | None = None
        self._history: HistoryRecorder | None = None
        self._collector: FaceCollector | None = None
        self._expiry: Expiry | None = None
        self._view = self._make_view(config)
        self._page: Page | None = None
        if sys.stdout is None:
            raise InputError("standard output is closed, but messages go there: redirect it to a file or /dev/null")
        # The runner's images are small: more threads of OpenCV cost a third more processor time and gain none, and they
        # would compete with the camera's thread and TFLite's (benchmarks/camera_decoding.py). This concerns the whole
        # process, so `events`, which runs in somebody else's, leaves it alone.
        cv2.setNumThreads(1)
        with ExitStack() as stack:
            classifier = load_classifier(config)
            identity = self._make_identity(config, classifier)
            self._source = self._make_source(realtime=realtime, loop=loop)
            self._is_trial = is_trial and not self._source.live
            stack.callback(self._close_source)
            stack.callback(self._close_observers)
            self._observers = self._open_observers(config)
            self._runner = Runner(
                self._source,
                _make_pipeline(config, classifier, live=self._source.live),
                identity,
                observers=self._observers,
                viewer=self._view,
                stats_interval=config.events.stats_interval_s,
                on_reload=self._reload if read_config else None,
            )
            stack.callback(self._close_collector, keep_waiting=False)
            self._sinks = self._open_sinks(config, identity, goes_on=False)
            self._runner.use_sinks(self._sinks)
            self._runner.change_events(self._events_settings(config))
            self._open_collector(config)
            self._open_page(config)
            stack.pop_all()

    def run(self, seconds: float | None = None) -> RunSummary:
        """Run until the source ends, or for a part of it.

        Args:
            seconds: stop after this much of the source's time.

        Raises:
            SourceError: the camera cannot be opened, and there is no broker to tell.
            SourceLostError: the camera failed.
            FerEdgeError: messages cannot be written to standard output, and there is no broker.
        """
        try:
            if self._mqtt and self._runner.enabled:
                # A retained OFF must arrive before the camera is opened and its light goes on.
                self._mqtt.wait_for_retained_command()
                if not self._runner.enabled:
                    _log_off(self._runner.identity.messages)
            summary = self._runner.run(seconds)
        finally:
            self._close_source()
            self._close_collector(keep_waiting=True)
            for sink in self._sinks:
                sink.close()
            self._close_observers()
            self._close_settings()
            self._count_queued(self._runner.summary)
        if not self._config.mqtt.url and self._output and self._output.failure:
            raise output_error(self._output.failure)
        return summary

    def _count_queued(self, summary: RunSummary) -> None:
        summary.queued = sum(sink.queued for sink in self._sinks)
        if self._config.mqtt.url:
            summary.outbox = self._outbox_paths(self._config)[1]

    def _outbox_paths(self, config: Config) -> tuple[Path, Path]:
        """Return the paths of the node's own outbox, which its privacy switch is beside, and of the one to use."""
        from fer_edge_device.mqtt.outbox import outbox_path  # noqa: PLC0415 - see _open_sinks

        path = outbox_path(config.outbox, config.node_name())
        return path, trial_file(path) if self._is_trial else path

    def _make_view(self, config: Config) -> LiveView | None:
        if not config.web.listen:
            return None
        from fer_edge_device.web.live_view import LiveView  # noqa: PLC0415 - only users of the page should wait for it

        return LiveView()

    def _make_source(self, *, realtime: bool | None, loop: bool) -> SwitchableSource:
        # Without a broker nobody would learn that a camera is missing, so that is an error at once.
        return make_source(
            self._config.camera,
            realtime=realtime,
            loop=loop,
            may_shrink=self._may_shrink,
            wait=not self._config.mqtt.url,
        )

    def _close_source(self) -> None:
        self._source.close()

    def _reload(self) -> None:
        """Read the configuration again and apply it; an error changes nothing."""
        sd_notify.reloading()
        try:
            # Everything that can fail comes first. The model is loaded again: its file may have been replaced.
            config = self._keep_min_face(self._read_config() if self._read_config else self._config)
            check_messages(config)
            check_collect(config.collect)
            classifier, detector = load_classifier(config), load_detector(config)
        except Exception as error:  # noqa: BLE001 - whatever a new file does, the old configuration goes on
            _log_failed_reload(error)
        else:
            self._apply(config, classifier, detector)
        finally:
            sd_notify.notify("READY=1")

    def _keep_min_face(self, config: Config) -> Config:
        """Return a configuration with the current smallest face, if the camera's frames may have been shrunk for it."""
        if not (self._may_shrink and config.faces.min_face):
            return config
        logger.warning("faces.min_face: this change takes effect after a restart")
        return msgspec.structs.replace(config, faces=msgspec.structs.replace(config.faces, min_face=0))

    def _apply(self, config: Config, classifier: TFLiteClassifier, detector: TrackingDetector) -> None:
        old = self._config
        self._close_collector(keep_waiting=False)  # first, because nothing more may be kept if it was turned off
        identity = self._make_identity(config, classifier)
        new_sinks = (config.mqtt, config.outbox, config.node_name()) != (old.mqtt, old.outbox, old.node_name())
        if new_sinks:
            self._runner.announce_offline()
            for sink in self._sinks:
                sink.close(_OLD_SINKS_TIMEOUT)
            self._close_settings()
            try:
                self._sinks = self._open_sinks(config, identity, goes_on=True)
            except InputError as error:
                _log_failed_reload(error)
                self._sinks = self._open_sinks(old, self._runner.identity, goes_on=True)
                self._runner.use_sinks(self._sinks)
                self._runner.change_identity(
                    self._runner.identity, stats_interval=old.events.stats_interval_s, new_sinks=True
                )
                self._open_collector(old)
                return
            self._runner.use_sinks(self._sinks)
        with self._command_lock:
            self._config = config
            settings = self._events_settings(config)
            self._runner.change_events(settings)
        self._runner.pipeline.reconfigure(
            config.faces,
            settings,
            fps=config.camera.fps,
            idle_fps=config.camera.idle_fps,
            detector=detector,
            classifier=classifier,
            model=model_id(classifier.card.name, classifier.sha256),
        )
        self._open_collector(config)
        self._runner.change_identity(identity, stats_interval=config.events.stats_interval_s, new_sinks=new_sinks)
        if keys := ", ".join(_changes_after_restart(old, config)):
            logger.warning("%s: these changes take effect after a restart", keys)
        logger.info("configuration reloaded")

    def _make_identity(self, config: Config, classifier: TFLiteClassifier) -> NodeIdentity:
        messages = MessageFactory(config.node_name(), config.mqtt.topic_prefix)
        info = Info(
            version=self._version,
            model=classifier.card.name,
            model_sha256=classifier.sha256,
            labels=classifier.card.labels,
            collects_faces=config.collect.enabled,
        )
        if not (config.mqtt.url and config.mqtt.ha_discovery):
            return NodeIdentity(messages, info)
        description = DeviceDescription(
            display_name=config.display_name,
            suggested_area=config.mqtt.ha_suggested_area,
            has_temperature=temperature_c() is not None,
            page_url=page_url(config.web),
        )
        discovery = discovery_message(messages, info, description, config.mqtt.ha_discovery_prefix)
        return NodeIdentity(messages, info, discovery)

    def _open_observers(self, config: Config) -> list[Observer]:
        observers: list[Observer] = [self._view] if self._view else []
        if config.history.enabled:
            # SQLite takes time to import, which only users of a history should wait for.
            from fer_edge_device.history.recorder import HistoryRecorder  # noqa: PLC0415

            self._history = HistoryRecorder(self._history_path(config), config.history, live=self._source.live)
            observers.append(self._history)
        return observers

    def _history_path(self, config: Config) -> Path:
        from fer_edge_device.history.database import history_path  # noqa: PLC0415 - see _open_observers

        path = history_path(config.history, config.node_name())
        return trial_file(path) if self._is_trial else path

    def _open_collector(self, config: Config) -> None:
        """Start to collect faces if that is configured, and to delete those that expire."""
        try:
            folder = collect_folder(config.collect, config.node_name(), is_trial=self._is_trial)
        except InputError:
            if config.collect.enabled:
                raise
            return
        if config.collect.enabled:
            # The library takes time to load, which only users of collect should wait for.
            from fer_edge_device.collect.collector import FaceCollector  # noqa: PLC0415

            node, classifier = config.node_name(), load_classifier(config)
            collector = FaceCollector(folder, config.collect, node, classifier, lambda: self._runner.enabled)
            self._collector = self._runner.pipeline.consumer = collector
            self._observers.append(collector)
        if config.collect.enabled or folder.exists():
            self._expiry = Expiry(folder, config.collect.max_days)

    def _close_collector(self, *, keep_waiting: bool) -> None:
        self._runner.pipeline.consumer = None
        if self._collector:
            self._observers.remove(self._collector)
            self._collector.close(keep_waiting=keep_waiting)
            self._collector = None
        if self._expiry:
            self._expiry.close()
            self._expiry = None

    def _open_page(self, config: Config) -> None:
        """Start to serve the page, if there is one."""
        if not self._view:
            return
        from fer_edge_device.web.controls import Controls  # noqa: PLC0415 - only users of the page should wait for it
        from fer_edge_device.web.start import serve_live_page  # noqa: PLC0415 - likewise

        switch = None if self._is_trial and not config.mqtt.url else PrivacySwitch(self._outbox_paths(config)[0])
        if switch and not config.mqtt.url:
            self._adopt_switch(switch, self._runner.identity.messages)
        controls = Controls(
            node=config.display_name or config.node_name(),
            switch=partial(self._switch_from_page, switch),
            restart=self._runner.request_restart,
            restart_camera=self._runner.request_camera_restart if self._source.live else None,
            is_connected=lambda: self._mqtt.connected if self._mqtt else None,
            history=self._history_path(config) if self._history else None,
        )
        self._page = serve_live_page(config, self._view, controls)

    @property
    def page_url(self) -> str:
        """The address of the live page on this machine; empty if there is none."""
        return self._page.url if self._page else ""

    def _switch_from_page(self, switch: PrivacySwitch | None, on: bool) -> bool:  # noqa: FBT001 - a switch
        """Switch on or off, like an MQTT command; a trial without a broker saves nothing."""
        if switch is None:
            self._runner.enable(on)
            return False
        return self._obey(switch, SwitchCommand(on=on, retained=False))

    def _close_observers(self) -> None:
        if self._page:
            self._page.close()
        if self._history:
            self._history.close()

    def _open_sinks(self, config: Config, identity: NodeIdentity, *, goes_on: bool) -> list[Sink]:
        """Open the sinks of a configuration; ``goes_on`` says whether this run had sinks before."""
        sinks: list[Sink] = []
        wait_until_stored: Callable[[], None] | None = None
        self._saved_settings = self._mqtt = None
        if config.mqtt.url:
            # The MQTT client takes 0.1 s to import, which only users of a broker should wait for.
            from fer_edge_device.mqtt.sink import MqttSink  # noqa: PLC0415

            own_outbox, outbox = self._outbox_paths(config)
            # In a trial, too, OFF is obeyed and lasts; it is for the node, and was taken from the broker.
            switch, saved_settings = PrivacySwitch(own_outbox), SavedSettings(outbox, self._use_saved_settings)
            commands: dict[str, Callable[[bytes], None]] = {
                identity.messages.topic("settings/set"): partial(self._change_settings, saved_settings),
                identity.messages.topic("restart/set"): self._restart,
            }
            on_command = partial(self._obey, switch)
            self._mqtt = MqttSink(
                identity.messages,
                config.mqtt,
                config.outbox,
                outbox_file=outbox,
                goes_on=goes_on,
                on_command=on_command,
                commands=commands,
            )
            sinks.append(self._mqtt)
            wait_until_stored = self._mqtt.wait_until_stored
            self._saved_settings = saved_settings
            # Not before: an outbox that another runner holds must not switch this one off.
            self._adopt_switch(switch, identity.messages)
        self._output = None
        if not sinks or config.log.messages:
            # A recording that is read at full speed loses no line to a slow reader, unless a broker waits as well.
            at_full_speed = not (sinks or self._source.live or isinstance(self._source, RealtimePlayback))
            self._output = JsonLinesSink(
                sys.stdout.buffer,
                wait=lambda: at_full_speed and not self._runner.stopping,
                before_write=wait_until_stored,
            )
            sinks.append(self._output)
        return sinks

    def _events_settings(self, config: Config) -> EventsSettings:
        """Return the configured settings, with the changes made over MQTT."""
        return self._saved_settings.apply(config.events) if self._saved_settings else config.events

    def _close_settings(self) -> None:
        if self._saved_settings:
            self._saved_settings.close()

    def _change_settings(self, saved: SavedSettings, payload: bytes) -> None:
        """Save new settings, and then apply them; called from the thread of a sink."""
        change = parse_change(payload)
        with self._command_lock:
            saved.change(change, self._config.events)

    def _use_saved_settings(self) -> None:
        """Apply settings that were saved, so that what is published about them is still true after a power cut."""
        with self._command_lock:
            self._runner.change_events(self._events_settings(self._config))

    def _restart(self, payload: bytes) -> None:
        """Restart the runner; called from the thread of a sink."""
        if payload.strip().upper() != b"PRESS":
            raise InputError("to restart the runner, send PRESS")
        logger.info("restarting, as a message asked for")
        self._runner.request_restart()

    def _adopt_switch(self, switch: PrivacySwitch, messages: MessageFactory) -> None:
        """Switch off if an earlier run was off, and save the result."""
        with self._command_lock:
            if not switch.on:
                _log_off(messages)
                self._runner.enable(wanted=False)
            switch.save(on=self._runner.enabled)

    def _obey(self, switch: PrivacySwitch, command: SwitchCommand) -> bool:
        """Save and apply a command; called from the thread of a sink.

        OFF wins: an ON that was retained may be older than the OFF on disk, so it does not switch the node on.

        Returns:
            Whether the command is done with.
        """
        with self._command_lock:
            if command.on and command.retained and not (switch.on and self._runner.enabled):
                logger.warning(
                    "a retained ON was not obeyed, because the node is switched off and the ON may be older;"
                    " publish ON without retain"
                )
                return True
            saved = switch.save(on=command.on)  # first, so that what is published next holds after a power cut
            self._runner.enable(command.on)
            return saved


def events(config: Config, *, realtime: bool = False) -> Generator[Event, None, None]:
    """Yield what happens in front of a camera or in a video: the events that `App.run` publishes, in their order.

    The work is done in the caller's thread, between two events. There are no messages, no broker, no privacy switch, no
    signal handlers and no notices to systemd. The source is opened by the first ``next``, and closed when the iterator
    is exhausted, closed or deleted.

    Args:
        config: the source, the model, and how faces and events are handled; other sections are ignored.
        realtime: whether a video or the demo plays no faster than it was recorded.

    Yields:
        Each event of each face; when the source ends or fails, an ``end`` for every face still in view.

    Raises:
        InputError: something in the configuration cannot be used.
        SourceError: the source cannot be opened.
        SourceLostError: the camera failed.
    """
    classifier = load_classifier(config)
    with closing(open_source(config.camera, realtime=realtime, may_shrink=_may_shrink(config))) as source:
        pipeline = _make_pipeline(config, classifier, live=source.live)
        try:
            for frame in paced_frames(source, lambda: pipeline.frame_interval):
                yield from pipeline.step(frame)[0]
        except SourceLostError:
            yield from pipeline.finish()[0]
            raise
        yield from pipeline.finish()[0]


def _make_pipeline(config: Config, classifier: TFLiteClassifier, *, live: bool) -> Pipeline:
    return Pipeline(
        load_detector(config),
        classifier,
        session=_session(config.camera.source, live=live),
        model=model_id(classifier.card.name, classifier.sha256),
        faces=config.faces,
        events=config.events,
        fps=config.camera.fps,
        idle_fps=config.camera.idle_fps,
    )


def _may_shrink(config: Config) -> bool:
    """Return whether a camera may shrink its frames: only if the smallest face is relative to them."""
    return not config.faces.min_face and reduction(max(config.camera.width, config.camera.height)) > 1


def _session(source: str, *, live: bool) -> str:
    """Return the first part of the tracks' ids: unique for a live session, the same for each replay of a video."""
    if live:
        return f"{time.time_ns() // 1_000_000:x}"
    return hashlib.sha256(Path(source).name.encode()).hexdigest()[:8]


def _changes_after_restart(old: Config, new: Config) -> list[str]:
    """Return the dotted keys that differ and that only a restart changes."""
    keys = [
        (section, field.name)
        for section in RESTART_SECTIONS
        for field in msgspec.structs.fields(getattr(new, section))
        if f"{section}.{field.name}" not in RELOADED_KEYS
    ]
    return [
        f"{section}.{key}"
        for section, key in keys
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
    ]


def _log_off(messages: MessageFactory) -> None:
    logger.info("switched off: no frame is processed until ON is published to %s", messages.topic("enabled/set"))


def _log_failed_reload(error: Exception) -> None:
    logger.error("%s, nothing has changed: %s", sd_notify.RELOAD_FAILED, error)
    sd_notify.status(f"{sd_notify.RELOAD_FAILED} at {time.strftime('%H:%M:%S')}: {error}")
