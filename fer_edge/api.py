"""The functions of the public API; `fer_edge` hands them out.

Each imports what it needs when it is called, so that `import fer_edge` costs next to nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.expression import Expression
    from fer_edge.recognizer import Recognizer
    from fer_edge.utils.image_input import Channels, ImageLike, StrPath
    from fer_edge_device.messages import Event

DetectorName = Literal["network", "yunet"]
_SMALLEST_FACE: Final = 12  # pixels
_LARGEST_FACE: Final = 4096
_MAX_THREADS: Final = 64
_MAX_WORKERS: Final = 1024


def load(
    model: StrPath = "edge",
    *,
    detector: DetectorName | None = "network",
    detector_model: StrPath | None = None,
    min_face: int | None = None,
    threads: int = 1,
) -> Recognizer:
    """Load a classifier and a face detector.

    Args:
        model: name of a model that comes with fer-edge, ``edge`` or ``edge-plus``, or the path of a ``.tflite``.
        detector: what finds faces: ``network``, which comes with fer-edge, or ``yunet``, whose file is yours; None if
            each image is a face crop already.
        detector_model: the detector's file; the one that comes with fer-edge by default.
        min_face: side of the smallest face to find, in pixels, 12 to 4096; by default a sixteenth of an image's longer
            side.
        threads: how many threads the classifier may use for one face, 1 to 64.

    Raises:
        InputError: an option is not what it should be.
        ModelError: a file is missing, damaged or not such a model.
        MissingExtraError: no TFLite runtime is installed.
    """
    path = _path(model, "model")
    detector_path = None if detector_model is None else _path(detector_model, "detector_model")
    if detector is None and (detector_path or min_face is not None):
        raise InputError("detector: None finds no faces; leave out detector_model and min_face, or name a detector")
    _check_options(detector, detector_path, min_face, threads)

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.detection.factory import make_detector
    from fer_edge.model_zoo import find_model
    from fer_edge.recognizer import Recognizer

    classifier = TFLiteClassifier(find_model(path), threads)
    return Recognizer(classifier, make_detector(detector, detector_path, min_face) if detector else None)


def annotate(
    image: ImageLike, faces: Sequence[Expression], save: StrPath | None = None, *, channels: Channels = "bgr"
) -> npt.NDArray[np.uint8]:
    """Draw the box, emotion and score of each face on a copy of an image.

    Args:
        image: a path, or a uint8 array, grey or colour.
        faces: what was recognized in it.
        save: where to write the copy, too; the ending says in which format, such as ``.png`` or ``.jpg``.
        channels: order of the colours in an array; the copy is BGR in any case.

    Returns:
        The copy, uint8 BGR of shape (rows, columns, 3).

    Raises:
        DataError: the image cannot be read.
        InputError: the image or the faces are not what they should be; or ``save`` is the image itself, has an unknown
            ending or cannot be written.
    """
    from fer_edge.drawing import annotate as draw

    return draw(image, faces, save, channels=channels)


def watch(
    source: StrPath | int = "auto",
    *,
    model: StrPath = "edge",
    detector: DetectorName = "network",
    detector_model: StrPath | None = None,
    min_face: int | None = None,
    threads: int = 1,
    config: StrPath | None = None,
    realtime: bool = False,
) -> Generator[Event, None, None]:
    """Watch a camera, stream or video, and yield the events that ``fer-edge run`` publishes.

    Each face that appears gives an event, so does each change of its emotion, and its end. The source is opened when
    the first event is asked for, and closed when the loop over the events has ended: when the source has, or with an
    error. To stop earlier and keep on with something else, close the events:
    ``with contextlib.closing(fer_edge.watch()) as events:``.

    All work is done in the thread that asks for the next event, between two of them; while that thread does something
    else, a camera's frames are skipped. Each call has its own models, so that several threads may each watch a source.

    Args:
        source: ``auto``, for the first camera that is found; a camera's number or path, such as 0 or ``/dev/video0``;
            ``picamera2``; ``rtsp://...`` or ``http://...``; a video; a folder of images; or ``demo``.
        model: as for `load`.
        detector: as for `load`, but there must be one.
        detector_model: as for `load`.
        min_face: as for `load`.
        threads: as for `load`.
        config: a configuration file, as ``fer-edge config`` prints one, for all that has no argument here. Its keys
            for what does are ignored, and so are those for messages and brokers.
        realtime: whether a video or the demo plays no faster than it was recorded.

    Yields:
        The events, in their order.

    Raises:
        InputError: an option or the configuration is not what it should be.
        ModelError: a file is missing, damaged or not such a model; raised with the first event, as are the others.
        SourceError: the source is not there or cannot be opened.
        SourceLostError: the camera failed.
    """
    if isinstance(source, bool) or not isinstance(source, str | int | os.PathLike):
        raise InputError(f"source: {source!r} is not a camera's number, a name, an address or a path")
    if detector is None:
        raise InputError("detector: a video needs one to find its faces; give 'network' or 'yunet'")
    detector_path = None if detector_model is None else _path(detector_model, "detector_model")
    _check_options(detector, detector_path, min_face, threads)
    options = {
        "camera.source": os.fspath(source) if isinstance(source, os.PathLike) else str(source),
        "model": str(_path(model, "model")),
        "faces.detector": detector,
        "faces.detector_model": str(detector_path or ""),
        "faces.min_face": min_face or 0,
        "threads": threads,
    }

    from fer_edge_device.app import events
    from fer_edge_device.config.load import load_config

    # Neither the service's file nor its variables change what a program does that calls this.
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
    threads: int = 1,
    workers: int = 0,
    sha256: bool = False,
) -> Iterator[dict[str, Any]]:
    """Tag images and videos in bulk, and yield a row for each face.

    A row has the columns of the table that ``fer-edge tag`` writes, in their order: ``path``; ``time`` and ``track`` of
    a face in a video; ``x``, ``y``, ``width`` and ``height`` in pixels; ``emotion``, ``score`` and ``score_<label>``;
    ``detector_score``, ``sha256``, ``error``, ``model``, ``model_sha256`` and ``version``. What does not apply is None.
    An image or frame without a face gives a row, too, and so does a file that cannot be read, with its ``error``.

    Args:
        paths: images, videos, archives, folders, patterns such as ``photos/*.jpg``, or addresses; one or several.
        every: time between the frames of a video that are processed, in seconds, or with a unit, such as ``500ms``,
            ``1s`` or ``2m``; by default every frame is.
        model: as for `load`.
        detector: as for `load`; None if each image is a face crop already.
        detector_model: as for `load`.
        min_face: as for `load`.
        threads: as for `load`.
        workers: how many processes work, up to 1024; by default the calling one does. A script that uses some needs
            the usual ``if __name__ == "__main__":``.
        sha256: whether to hash each file.

    Returns:
        The rows, each as soon as its image is done, in the order of the paths.

    Raises:
        InputError: a path is not there, there are no images, or an option is not what it should be.
        ModelError: a model file is missing, damaged or not such a model.
        MissingExtraError: what one of the files needs is not installed.
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable) else list(paths)
    names = [str(_path(path, "paths")) if not isinstance(path, str) or not path else path for path in listed]
    if not names:
        raise InputError("paths: nothing to tag; give images, videos or folders")
    detector_path = None if detector_model is None else _path(detector_model, "detector_model")
    _check_options(detector, detector_path, min_face, threads)
    _check_whole("workers", workers, 0, _MAX_WORKERS)

    from fer_edge.tagging.rows import tag_rows

    return tag_rows(
        names,
        every=_seconds(every),
        model=_path(model, "model"),
        detector=detector or "network",
        detector_model=detector_path,
        min_face=min_face,
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
        raise InputError(f"every: {every!r} is not a time above 0; give seconds, or text such as '500ms' or '1s'")
    return float(every)


def _check_options(detector: object, detector_model: Path | None, min_face: object, threads: object) -> None:
    """Raise InputError for an option that is not what it should be."""
    if detector is not None and detector not in get_args(DetectorName):
        raise InputError(f"detector: {detector!r} is not one of {', '.join(get_args(DetectorName))}")
    if detector == "yunet" and detector_model is None:
        raise InputError(
            "detector_model: yunet needs its file, face_detection_yunet_2023mar.onnx of the OpenCV Zoo; give its path"
        )
    _check_whole("threads", threads, 1, _MAX_THREADS)
    if min_face is not None:
        _check_whole("min_face", min_face, _SMALLEST_FACE, _LARGEST_FACE)


def _path(value: object, name: str) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise InputError(f"{name}: {value!r} is neither a name nor a path")
    return Path(value)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise InputError unless a value is a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name}: {value!r} is not a whole number from {low} to {high}")
