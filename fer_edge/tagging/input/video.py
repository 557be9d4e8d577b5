"""Videos, in parts that can be looked at on their own: each frame falls into one part by its own time."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.errors import DataError
from fer_edge.tagging.input import tempdirs
from fer_edge.utils.native_stderr import native_stderr_hidden

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import numpy.typing as npt

VIDEO_SUFFIXES: Final = frozenset(
    {".3gp", ".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".webm", ".wmv"}
)
_PART_S: Final = 60.0
_RUN_UP_S: Final = 2.0  # a frame needs some before it; how many, only the decoder knows


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        colour: BGR, uint8 of shape (rows, columns, 3); of the decoder's own memory, which the next frame takes.
        time: seconds within the video.
    """

    colour: npt.NDArray[np.uint8]
    time: float


def parts(path: Path, every: float | None) -> Iterator[tuple[float, float]]:
    """Begin and end, in seconds, of the parts of a video; one that cannot be opened is one part.

    Args:
        path: a video.
        every: seconds between the frames that are looked at; None for every frame.
    """
    try:
        with _capture(path) as capture:
            # A header can say anything; each part costs opening the video anew.
            believed = capture.get(cv2.CAP_PROP_FRAME_COUNT) <= path.stat().st_size
            length = _length(capture) if believed else 0.0
    except DataError:
        length = 0.0
    step = every * math.ceil(_PART_S / every) if every else _PART_S
    begin = 0.0
    for number in range(1, math.ceil(length / step)):
        yield begin, number * step
        begin = number * step
    yield begin, math.inf


def frames(path: Path, begin: float, end: float, every: float | None) -> Generator[VideoFrame]:
    """The frames of a part of a video whose times lie in [begin, end).

    Args:
        path: the video.
        begin: in seconds.
        end: in seconds; infinite for the rest.
        every: seconds of which the first frame is given; None for every frame.

    Raises:
        DataError: it is no video, or a damaged one; what comes before the damage is given.
    """
    with _capture(path) as capture:
        last = _start(capture, begin)
        due = begin
        seen = False
        while capture.grab():
            time = _time(capture, last)
            last = time
            if time >= end:
                return
            if time < due:
                continue
            ok, image = capture.retrieve()
            if not ok or image.ndim != 3:
                raise DataError(f"{path}: gave a frame that cannot be decoded, {time:.3f} s after its start")
            seen = True
            yield VideoFrame(np.asarray(image, np.uint8), round(time, 3))
            due = (math.floor(time / every + 1e-6) + 1) * every if every else due
        length = _length(capture)
        if not seen and begin == 0:
            raise DataError(f"{path}: has no frame that OpenCV can read")
        # Lengths are often estimates.
        if seen and last < length * 0.98 - 1 and last < end:
            raise DataError(f"{path}: ended after {last:.0f} of about {length:.0f} s; it is damaged or cut short")


def _start(capture: cv2.VideoCapture, begin: float) -> float:
    """Go to some frame before a time, or to the first; gives the time of the last frame before the next to come."""
    run_up = _RUN_UP_S
    while run_up < begin:
        capture.set(cv2.CAP_PROP_POS_MSEC, (begin - run_up) * 1000)
        if capture.grab() and 0 < (time := _time(capture, -1.0)) < begin:
            return time
        run_up *= 4
    if begin:
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    return -1.0


def _time(capture: cv2.VideoCapture, last: float) -> float:
    """The time of the frame that was grabbed, in seconds; some containers carry none that can be used."""
    stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    return stamp if stamp > last else max(last, 0.0) + (1 / _rate(capture) if last >= 0 else 0.0)


def _rate(capture: cv2.VideoCapture) -> float:
    return capture.get(cv2.CAP_PROP_FPS) or 25.0


def _length(capture: cv2.VideoCapture) -> float:
    return max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0.0) / _rate(capture)


@contextmanager
def _capture(path: Path) -> Iterator[cv2.VideoCapture]:
    if not os.path.isfile(path):  # noqa: PTH113 - that of a Path raises where it may not look
        raise DataError(f"{path}: no such file")
    # OpenCV crashes on a name that is not UTF-8.
    with tempdirs.folder() as folder:
        link = folder / f"video{path.suffix}"
        link.symlink_to(path.resolve())
        with native_stderr_hidden():
            capture = cv2.VideoCapture(str(link), cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                raise DataError(f"{path}: not a video that OpenCV can read")
            yield capture
        finally:
            capture.release()
