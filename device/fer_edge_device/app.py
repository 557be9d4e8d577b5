"""What ``fer-edge run`` does: put camera, pipeline and sinks together and run them."""

from __future__ import annotations

import hashlib
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge.errors import InputError
from fer_edge_device.cameras import open_camera
from fer_edge_device.config import CameraSettings
from fer_edge_device.messages import Info, Topics
from fer_edge_device.pipeline import Pipeline
from fer_edge_device.runner import Runner
from fer_edge_device.sinks import JsonLines

if TYPE_CHECKING:
    from fer_edge.classify import TFLiteClassifier
    from fer_edge.faces import FaceDetector
    from fer_edge_device.runner import Summary


def run_source(
    source: str,
    *,
    classifier: TFLiteClassifier,
    detector: FaceDetector,
    version: str,
    node: str | None = None,
    seconds: float | None = None,
    size: tuple[int, int] = (640, 480),
    realtime: bool | None = None,
) -> Summary:
    """Run a source to its end, messages on standard output.

    Args:
        source: as for `open_camera`.
        classifier: the model.
        detector: what finds faces.
        version: of fer-edge, for the ``info`` message.
        node: name in the topics; the host's by default.
        seconds: stop after this much of the source's time.
        size: wanted columns and rows of a live camera's frames.
        realtime: as for `open_camera`.

    Raises:
        InputError: the node's name is unfit.
        SourceError: the source is not there.
        SourceLostError: it failed later on.
    """
    if sys.stdout is None:
        raise InputError("standard output is closed; messages go there: redirect it to a file or /dev/null")
    topics = Topics(socket.gethostname() if node is None else node)
    settings = CameraSettings(source=source, width=size[0], height=size[1])
    camera = open_camera(settings, realtime=realtime)
    try:
        pipeline = Pipeline(
            detector,
            classifier,
            session=_session(source, live=camera.live),
            model=f"{classifier.card.name}-{classifier.sha256[:8]}",
        )
        info = Info(
            version=version,
            model=classifier.card.name,
            model_sha256=classifier.sha256,
            labels=classifier.card.labels,
        )
        return Runner(camera, pipeline, topics, info, [JsonLines(sys.stdout.buffer)]).run(seconds)
    finally:
        camera.close()


def _session(source: str, *, live: bool) -> str:
    """What the tracks' ids begin with: another for each live session, the same for each replay of a film."""
    if live:
        return f"{time.time_ns() // 1_000_000:x}"
    return hashlib.sha256(Path(source).name.encode()).hexdigest()[:8]
