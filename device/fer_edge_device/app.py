"""What ``fer-edge run`` does: put camera, pipeline and sinks together, run them, and change them on SIGHUP."""

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

import msgspec

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import make_detector
from fer_edge.errors import FerEdgeError, InputError, SourceLostError
from fer_edge.model_zoo import find_model
from fer_edge_device import sd_notify
from fer_edge_device.capture.base import paced_frames
from fer_edge_device.capture.factory import open_source
from fer_edge_device.config.settings import CameraSettings
from fer_edge_device.messages import Info, MessageFactory
from fer_edge_device.mqtt.home_assistant import discovery_message
from fer_edge_device.pipeline.pipeline import Pipeline
from fer_edge_device.privacy_switch import PrivacySwitch
from fer_edge_device.runner import NodeIdentity, Runner
from fer_edge_device.sinks import JsonLinesSink

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from fer_edge.detection.base import TrackingDetector
    from fer_edge_device.config.settings import Config, LogSettings
    from fer_edge_device.messages import Event
    from fer_edge_device.runner import RunSummary
    from fer_edge_device.sinks import Sink

logger = logging.getLogger(__name__)

# Seconds that the old sinks get for what waits when they are changed: a stop may come meanwhile, and the new ones then
# take ten. With a second each for what hangs, and two for the camera, that is less than the unit's TimeoutStopSec.
_CHANGE: Final = 2.0


class App:
    """A runner that is made, and changed, as a configuration says."""

    def __init__(
        self,
        config: Config,
        *,
        version: str,
        realtime: bool | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        """Load the model, open the camera and begin to connect to the broker.

        Args:
            config: everything that a runner is told.
            version: of fer-edge, for the ``info`` message.
            realtime: as for `open_source`.
            reread: reads the configuration anew on SIGHUP; without it that signal keeps its usual meaning.

        Raises:
            InputError: something in the configuration cannot be used.
            SourceError: the source is not there.
        """
        self._config, self._version, self._reread = config, version, reread
        self._switching = Lock()
        if sys.stdout is None:
            raise InputError("standard output is closed; messages go there: redirect it to a file or /dev/null")
        with ExitStack() as stack:
            self._classifier = _classifier(config)
            node = self._node(config, self._classifier)
            self._camera = open_source(config.camera, realtime=realtime)
            stack.callback(self._camera.close)
            pipeline = _pipeline(config, self._classifier, live=self._camera.live)
            self._runner = Runner(
                self._camera,
                pipeline,
                node,
                stats_every=config.events.stats_interval_s,
                reload=self._reload if reread else None,
            )
            self._sinks = self._open_sinks(config, node)
            self._runner.send_to(self._sinks)
            stack.pop_all()

    def run(self, seconds: float | None = None) -> RunSummary:
        """Run to the end of the source, or of ``seconds`` of its time.

        Raises:
            SourceLostError: the camera failed.
        """
        try:
            return self._runner.run(seconds)
        finally:
            self._camera.close()
            for sink in self._sinks:
                sink.close()

    def _reload(self) -> None:
        """Take over what can be changed while faces are followed; what is wrong changes nothing."""
        sd_notify.reloading()
        try:
            # All that can fail comes first; a model's file of the same name may be another by now.
            config = self._reread() if self._reread else self._config
            _check_messages(config)
            classifier, detector = _classifier(config), _detector(config)
        except (FerEdgeError, OSError) as error:
            logger.error("everything stays as it was: %s", error)  # noqa: TRY400 - the line says it all
        else:
            self._change(config, classifier, detector)
        finally:
            sd_notify.notify("READY=1")

    def _change(self, config: Config, classifier: TFLiteClassifier, detector: TrackingDetector) -> None:
        old = self._config
        node = self._node(config, classifier)
        moved = (config.mqtt, config.outbox, config.node_name()) != (old.mqtt, old.outbox, old.node_name())
        if moved:
            self._runner.say_goodbye()
            for sink in self._sinks:
                sink.close(_CHANGE)
            try:
                self._sinks = self._open_sinks(config, node)
            except InputError as error:
                logger.error("everything stays as it was: %s", error)  # noqa: TRY400 - the line says it all
                self._sinks = self._open_sinks(old, self._runner.node)
                self._runner.send_to(self._sinks)
                self._runner.change(self._runner.node, stats_every=old.events.stats_interval_s, moved=True)
                return
            self._runner.send_to(self._sinks)
        self._runner.pipeline.reconfigure(
            config.faces,
            config.events,
            fps=config.camera.fps,
            idle_fps=config.camera.idle_fps,
            detector=detector,
            classifier=classifier,
            model=_model_name(classifier),
        )
        self._runner.change(node, stats_every=config.events.stats_interval_s, moved=moved)
        self._config = config
        for section in ("camera", "log"):
            if _fixed(getattr(config, section)) != _fixed(getattr(old, section)):
                logger.warning("[%s]: what changed there takes a restart", section)
        logger.info("the configuration was read anew")

    def _node(self, config: Config, classifier: TFLiteClassifier) -> NodeIdentity:
        topics = MessageFactory(config.node_name(), config.mqtt.topic_prefix)
        info = Info(
            version=self._version,
            model=classifier.card.name,
            model_sha256=classifier.sha256,
            labels=classifier.card.labels,
        )
        announced = bool(config.mqtt.url) and config.mqtt.ha_discovery
        return NodeIdentity(
            topics, info, discovery_message(topics, info, config.mqtt.ha_discovery_prefix) if announced else None
        )

    def _open_sinks(self, config: Config, node: NodeIdentity) -> list[Sink]:
        sinks: list[Sink] = []
        if config.mqtt.url:
            from fer_edge_device.mqtt.outbox import outbox_path  # noqa: PLC0415 - likewise
            from fer_edge_device.mqtt.sink import MqttSink  # noqa: PLC0415 - 0.1 s that only those wait who have a broker

            switch = PrivacySwitch(outbox_path(config.outbox, node.topics.node))
            obey = partial(self._obey, switch)
            sinks.append(MqttSink(node.topics, config.mqtt, config.outbox, on_enabled=obey))
            # Only now: an outbox that cannot be had must not switch anything.
            self._take_over(switch, node.topics)
        if not sinks or config.log.messages:
            sinks.append(JsonLinesSink(sys.stdout.buffer))
        return sinks

    def _take_over(self, switch: PrivacySwitch, topics: MessageFactory) -> None:
        """Be switched off if an earlier run was, and keep it if this one is."""
        with self._switching:
            if not switch.on:
                logger.info("switched off: no frame is looked at until ON comes to %s", topics.topic("enabled/set"))
                self._runner.enable(wanted=False)
            switch.keep(on=self._runner.enabled)

    def _obey(self, switch: PrivacySwitch, on: bool) -> None:  # noqa: FBT001 - a switch
        """The switch was thrown; told by a sink's thread."""
        with self._switching:
            switch.keep(on=on)  # first, so that what is told afterwards is true after a power cut, too
            self._runner.enable(on)


def events(config: Config, *, realtime: bool = False) -> Generator[Event, None, None]:
    """Yield what happens before a camera or in a video: the events that `App.run` publishes, in their order.

    Everything runs in the caller's thread, between two events. There are no messages, no broker, no privacy switch, no
    signal handlers and no notices to systemd. The source is opened by the first ``next`` and closed when the iterator
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
    classifier = _classifier(config)
    with closing(open_source(config.camera, realtime=realtime)) as source:
        pipeline = _pipeline(config, classifier, live=source.live)
        try:
            for frame in paced_frames(source, lambda: pipeline.rest):
                yield from pipeline.step(frame)[0]
        except SourceLostError:
            yield from pipeline.finish()[0]
            raise
        yield from pipeline.finish()[0]


def _pipeline(config: Config, classifier: TFLiteClassifier, *, live: bool) -> Pipeline:
    return Pipeline(
        _detector(config),
        classifier,
        session=_session(config.camera.source, live=live),
        model=_model_name(classifier),
        faces=config.faces,
        events=config.events,
        fps=config.camera.fps,
        idle_fps=config.camera.idle_fps,
    )


def _fixed(settings: CameraSettings | LogSettings) -> CameraSettings | LogSettings:
    """What of a section cannot be changed while it runs."""
    if isinstance(settings, CameraSettings):
        return msgspec.structs.replace(settings, fps=1.0, idle_fps=1.0)
    return settings


def _classifier(config: Config) -> TFLiteClassifier:
    return TFLiteClassifier(find_model(Path(config.model)), config.threads)


def _detector(config: Config) -> TrackingDetector:
    faces = config.faces
    path = Path(faces.detector_model) if faces.detector_model else None
    return make_detector(faces.detector, path, faces.min_face or None)


def _model_name(classifier: TFLiteClassifier) -> str:
    return f"{classifier.card.name}-{classifier.sha256[:8]}"


def _session(source: str, *, live: bool) -> str:
    """What the tracks' ids begin with: another for each live session, the same for each replay of a video."""
    if live:
        return f"{time.time_ns() // 1_000_000:x}"
    return hashlib.sha256(Path(source).name.encode()).hexdigest()[:8]


def check_config(config: Config) -> None:
    """Find out whether what a configuration names can be used, short of opening the camera and asking the broker.

    Raises:
        InputError: something cannot.
    """
    _classifier(config)
    _detector(config)
    _check_messages(config)


def _check_messages(config: Config) -> None:
    """Find out whether topics and broker can be what they are to be."""
    MessageFactory(config.node_name(), config.mqtt.topic_prefix)
    if config.mqtt.url:
        from fer_edge_device.mqtt.connection import Broker  # noqa: PLC0415 - likewise

        Broker(config.mqtt)
