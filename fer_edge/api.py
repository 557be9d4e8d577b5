"""The public functions that load, watch and tag.

Each imports what it needs when it is called, so that importing them takes hardly any time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from fer_edge.errors import InputError
from fer_edge.model_zoo import DetectorName
from fer_edge.utils.arguments import check_path, describe_value

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from fer_edge.recognizer import Recognizer
    from fer_edge.utils.image_input import StrPath
    from fer_edge_device.messages import Event

_SMALLEST_FACE: Final = 12  # pixels
_LARGEST_FACE: Final = 4096
_LOWEST_SCORE: Final = 0.01
_HIGHEST_SCORE: Final = 0.99
_MAX_THREADS: Final = 64
_MAX_WORKERS: Final = 1024


def load(
    model: StrPath = "edge",
    *,
    detector: DetectorName | None = "network",
    detector_model: StrPath | None = None,
    min_face: int | None = None,
    min_score: float | None = None,
    threads: int = 1,
) -> Recognizer:
    """Load a classifier and a face detector.

    Args:
        model: name of a shipped model, ``edge``, ``edge-plus`` or ``large``, or path of a ``.tflite`` file with a model
            card.
        detector: face detector: ``network`` is shipped; for ``yunet``, give its file as ``detector_model``; None if
            every image is a face crop.
        detector_model: file of the detector; None for the shipped one.
        min_face: side of the smallest face to find, in pixels, 12 to 4096; None for a sixteenth of an image's longer
            side.
        min_score: lowest score of a face, 0.01 to 0.99; None for the detector's own. With the shipped detector, it is
            the expected share of boxes with this score that are faces.
        threads: number of threads of the classifier, 1 to 64.

    Raises:
        InputError: an option has a wrong value.
        ModelError: a model file is missing, damaged or of the wrong kind.
        MissingExtraError: no TFLite runtime is installed.
    """
    path = _path(model, "model")
    detector_path = None if detector_model is None else _path(detector_model, "detector_model")
    _check_options(detector, min_face, min_score, threads, has_file=detector_path is not None)

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.detection.factory import make_detector
    from fer_edge.recognizer import Recognizer

    classifier = TFLiteClassifier(path, threads)
    return Recognizer(classifier, make_detector(detector, detector_path, min_face, min_score) if detector else None)


def watch(
    source: StrPath | int | None = None,
    *,
    model: StrPath | None = None,
    detector: DetectorName | None = None,
    detector_model: StrPath | None = None,
    min_face: int | None = None,
    min_score: float | None = None,
    threads: int | None = None,
    config: StrPath | None = None,
    realtime: bool = False,
) -> Generator[Event, None, None]:
    """Watch a camera, stream or video and yield its events.

    They are the events that ``fer-edge run`` publishes: a face appears, its emotion changes, it leaves.

    The source is opened when the first event is requested, and closed when the source ends or an error occurs. To stop
    earlier, close the iterator: ``with contextlib.closing(fer_edge.watch()) as events:``.

    The thread that requests the next event does all the work; only the driver of a camera runs in a process of its own,
    which needs no ``if __name__ == "__main__"`` in a script. Frames that a camera delivers in the meantime are
    skipped. Each call loads its own models, so several threads can watch a source each.

    Args:
        source: ``auto`` for the first camera that is found; number or path of a camera, such as 0 or ``/dev/video0``;
            ``picamera2``; ``rtsp://...`` or ``http://...``; a video; a folder of images; or ``demo``. None for the
            configuration's value, as for the following arguments; its default is ``auto``.
        model: as for `load`.
        detector: as for `load`, but a video is never searched without one.
        detector_model: as for `load`.
        min_face: as for `load`.
        min_score: as for `load`.
        threads: as for `load`.
        config: configuration file for all other settings, such as rates and thresholds; ``fer-edge config`` prints
            one. Arguments override it. Settings of messages and brokers are ignored.
        realtime: whether a video or the demo plays no faster than it was recorded.

    Yields:
        The events in order of time.

    Raises:
        InputError: an option or the configuration has a wrong value.
        ModelError: a model file is missing, damaged or of the wrong kind. This error and the following ones are raised
            when the first event is requested.
        SourceError: the source does not exist or cannot be opened.
        SourceLostError: the camera failed.
    """
    kind = "a camera's number, a name, an address or a path"
    if isinstance(source, bool) or not isinstance(source, str | int | os.PathLike | None):
        raise InputError(f"source: {describe_value(source)} is not {kind}")
    detector_path = None if detector_model is None else _path(detector_model, "detector_model")
    source_text = str(source) if isinstance(source, int) else None
    if source is not None and source_text is None:
        source_text = check_path(source, "source", kind)
    _check_flag("realtime", realtime)
    has_file = detector_path is not None or config is not None  # the configuration may name the detector's file
    _check_options(
        "network" if detector is None else detector,
        min_face,
        min_score,
        1 if threads is None else threads,
        has_file=has_file,
    )
    options = {
        "camera.source": source_text,
        "model": None if model is None else str(_path(model, "model")),
        "faces.detector": detector,
        "faces.detector_model": None if detector_path is None else str(detector_path),
        "faces.min_face": min_face,
        "faces.min_score": min_score,
        "threads": threads,
    }

    from fer_edge_device.app import events
    from fer_edge_device.config.load import load_config

    # The service's configuration file and variables must not change what a user's program does.
    file = Path(os.devnull) if config is None else _path(config, "config")
    return events(load_config(file, environment={}, options=options), realtime=realtime)


def tag(
    paths: StrPath | Iterable[StrPath],
    *,
    every: str | float | None = None,
    model: StrPath = "edge",
    detector: DetectorName | None = "network",
    detector_model: StrPath | None = None,
    min_face: int | None = None,
    min_score: float | None = None,
    threads: int = 1,
    workers: int = 0,
    sha256: bool = False,
) -> Iterator[dict[str, Any]]:
    """Tag images and videos in bulk and yield a row for each face.

    A row has the columns of the table that ``fer-edge tag`` writes, in the same order: ``path``; ``time`` and ``track``
    of a face in a video; ``x``, ``y``, ``width`` and ``height`` in pixels; ``emotion``, ``score`` and
    ``score_<label>``; ``reliable``, ``size``, ``roll``, ``yaw`` and ``sharpness``; ``detector_score``,
    ``sha256``, ``error``, ``model``, ``model_sha256`` and ``version``. A value
    that does not apply is None. An image or frame without a face has a row, too; so has a file that cannot be read,
    with the reason as its ``error``.

    Args:
        paths: one or several images, videos, archives, folders, patterns such as ``photos/*.jpg``, or addresses.
        every: time between the processed frames of a video, in seconds or as text with a unit, such as ``500ms``,
            ``1s`` or ``2m``; None for every frame.
        model: as for `load`.
        detector: as for `load`.
        detector_model: as for `load`.
        min_face: as for `load`.
        min_score: as for `load`.
        threads: as for `load`.
        workers: number of worker processes, up to 1024; 0 for the calling process. A script that uses workers needs
            the usual ``if __name__ == "__main__":``.
        sha256: whether to hash each file.

    Returns:
        An iterator of the rows, in the order of the paths. It raises InputError if there are no images.

    Raises:
        InputError: a path does not exist, or an option has a wrong value.
        ModelError: a model file is missing, damaged or of the wrong kind.
        MissingExtraError: an optional package is not installed.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable) else list(paths)
    names = [_path_text(path, "paths") for path in listed]  # not as Path, which would change addresses
    if not names:
        raise InputError("paths: nothing to tag; give images, videos or folders")
    detector_path = None if detector_model is None else _path(detector_model, "detector_model")
    _check_options(detector, min_face, min_score, threads, has_file=detector_path is not None)
    _check_flag("sha256", sha256)
    _check_whole("workers", workers, 0, _MAX_WORKERS)

    from fer_edge.tagging.rows import tag_rows

    return tag_rows(
        names,
        every=_seconds(every),
        model=_path(model, "model"),
        detector=detector or "network",
        detector_model=detector_path,
        min_face=min_face,
        min_score=min_score,
        face=detector is None,
        sha256=sha256,
        threads=threads,
        workers=workers,
    )


def _seconds(every: object) -> float | None:
    """Convert the time between frames to seconds."""
    from fer_edge.utils.duration import parse_duration

    if every is None:
        return None
    if isinstance(every, str):
        return parse_duration(every, "every")
    if isinstance(every, bool) or not isinstance(every, int | float) or not 0 < every < math.inf:
        raise InputError(
            f"every: {describe_value(every)} is not a time above 0; give seconds, or text such as '500ms' or '1s'"
        )
    return float(every)


def _check_options(detector: object, min_face: object, min_score: object, threads: object, *, has_file: bool) -> None:
    """Raise InputError if an option has a wrong value."""
    if detector is not None and (not isinstance(detector, str) or detector not in get_args(DetectorName)):
        raise InputError(f"detector: {describe_value(detector)} is not one of {', '.join(get_args(DetectorName))}")
    if detector == "yunet" and not has_file:
        raise InputError(
            "detector_model: yunet needs its file, face_detection_yunet_2023mar.onnx of the OpenCV Zoo; give its path"
        )
    if detector is None and (has_file or min_face is not None or min_score is not None):
        raise InputError(
            "detector: None finds no faces; leave out detector_model, min_face and min_score, or name a detector"
        )
    _check_whole("threads", threads, 1, _MAX_THREADS)
    if min_face is not None:
        _check_whole("min_face", min_face, _SMALLEST_FACE, _LARGEST_FACE)
    if min_score is not None and (
        isinstance(min_score, bool)
        or not isinstance(min_score, int | float)
        or not _LOWEST_SCORE <= min_score <= _HIGHEST_SCORE
    ):
        raise InputError(
            f"min_score: {describe_value(min_score)} is not a number from {_LOWEST_SCORE} to {_HIGHEST_SCORE}"
        )


def _path(value: object, name: str) -> Path:
    return Path(_path_text(value, name))


def _path_text(value: object, name: str) -> str:
    if isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str) and os.fspath(value):
        return check_path(value, name)
    raise InputError(f"{name}: {describe_value(value)} is neither a name nor a path")


def _check_flag(name: str, value: object) -> None:
    """Raise InputError unless a value is True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name}: {describe_value(value)} is neither True nor False")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a value is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name}: {describe_value(value)} is not a whole number from {low} to {high}")
