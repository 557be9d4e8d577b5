"""The emulated half of `benchmarks/arm.py`: does the work, and sets a mark around each piece of it.

    python benchmarks/arm_guest.py FOLDER

FOLDER holds ``frame.npy``, ``videos.npz`` and ``naive.so``, and ``yunet.onnx`` if YuNet is to be measured. The result,
``guest.json``, says what was done between which marks, and where the libraries lie in memory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.detection.factory import make_detector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.tflite.trial import trust_models
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import EventsSettings, FacesSettings
from fer_edge_device.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_MARK: Final = 0x5EED0000  # as in arm_plugin.c
_WARM_UP: Final = 2
_CALLS: Final = 3
_SIDE: Final = 128  # of the naive loop's matrices
FPS: Final = 10
WARM_UP_FRAMES: Final = 20


class Piece(msgspec.Struct):
    """A piece of work.

    Attributes:
        name: what was done.
        marks: numbers of marks; the work was done twice as often between the second and third as between the first
            and second, if there are three.
        times: how often the work was done between the first two marks; for the naive loop, its multiply-adds.
    """

    name: str
    marks: list[int]
    times: int


class Result(msgspec.Struct):
    """What the host must know.

    Attributes:
        pieces: the pieces of work.
        maps: the memory map of this process.
    """

    pieces: list[Piece]
    maps: str


class Marks:
    """Sets marks, numbered from 0."""

    def __init__(self) -> None:
        """Start at 0."""
        self._next = 0

    def set(self) -> int:
        """Set a mark, and return its number."""
        number = self._next
        self._next += 1
        with suppress(OSError):  # no such descriptor
            os.close(_MARK + number)
        return number


def measure(marks: Marks, name: str, call: Callable[[], object]) -> Piece:
    """Call a function n and then 2n times."""
    for _ in range(_WARM_UP):
        call()
    numbers = [marks.set()]
    for calls in (_CALLS, 2 * _CALLS):
        for _ in range(calls):
            call()
        numbers.append(marks.set())
    return Piece(name, numbers, _CALLS)


def measure_pipeline(marks: Marks, name: str, video: npt.NDArray[np.uint8]) -> Piece:
    """Run the frames of a video through the pipeline of `fer-edge run`."""
    pipeline = Pipeline(
        make_detector(),
        TFLiteClassifier(),
        session="arm",
        model="arm",
        faces=FacesSettings(),
        events=EventsSettings(),
        fps=FPS,
        idle_fps=2,
    )
    numbers = []
    for i, gray in enumerate(video):
        if i == WARM_UP_FRAMES:
            numbers.append(marks.set())
        pipeline.step(Frame(gray, i / FPS, i))
    return Piece(name, [*numbers, marks.set()], len(video) - WARM_UP_FRAMES)


def naive_loop(library: Path) -> Callable[[], object]:
    """Return a function that multiplies two matrices by the naive loop."""
    multiply = ctypes.CDLL(str(library)).multiply
    first, second = (np.ones((_SIDE, _SIDE), np.int8) for _ in range(2))
    out = np.empty((_SIDE, _SIDE), np.int32)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (first, second, out)]
    return lambda: multiply(*pointers, _SIDE, _SIDE, _SIDE)


def main() -> None:
    """Do everything once."""
    folder = Path(sys.argv[1])
    cv2.setNumThreads(1)
    trust_models()  # a trial would start a process that is not emulated
    marks = Marks()
    gray = np.load(folder / "frame.npy")
    detector, classifier = make_detector(), TFLiteClassifier()
    (face,) = detector.detect(gray)
    pieces = [
        measure(marks, "detect", lambda: detector.detect(gray)),
        measure(marks, "coarse", lambda: detector.detect(gray, coarse=True)),
        measure(marks, "roi", lambda: detector.detect_in_roi(gray, face.box)),
        measure(marks, "classify", lambda: classify_faces(gray, [face], detector.crop_spec, classifier)),
    ]
    if (folder / "yunet.onnx").exists():
        yunet = YuNetDetector(folder / "yunet.onnx")
        pieces.append(measure(marks, "yunet", lambda: yunet.detect(gray)))
    loop = measure(marks, "naive", naive_loop(folder / "naive.so"))
    loop.times *= _SIDE**3
    pieces.append(loop)
    with np.load(folder / "videos.npz") as videos:
        pieces += [measure_pipeline(marks, name, videos[name]) for name in videos]
    result = Result(pieces, Path("/proc/self/maps").read_text("utf-8"))
    (folder / "guest.json").write_bytes(msgspec.json.encode(result))


if __name__ == "__main__":
    main()
