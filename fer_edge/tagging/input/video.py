"""Read videos in parts, so that several processes can work on one: each frame belongs to one part by its time."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.errors import DataError
from fer_edge.tagging.input import tempdirs
from fer_edge.utils.native_stderr import hide_native_stderr

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import numpy.typing as npt

_PART_S: Final = 60.0
_RUN_UP_S: Final = 2.0  # decoding a frame takes some before it; only the decoder knows how many


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: BGR, uint8 of shape (rows, columns, 3), in the decoder's own memory, which the next frame overwrites.
        time: Seconds from the start of the video.
    """

    image: npt.NDArray[np.uint8]
    time: float


def split_video(path: Path, every: float | None) -> Iterator[tuple[float, float]]:
    """Yield begin and end of each part of a video, in seconds; a video that cannot be opened is one part.

    Args:
        path: The video.
        every: Seconds between the processed frames; None for every frame.
    """
    try:
        with _open(path) as capture:
            # A damaged header can state any number of frames, and each part costs opening the video again.
            plausible = capture.get(cv2.CAP_PROP_FRAME_COUNT) <= path.stat().st_size
            length = _length(capture) if plausible else 0.0
    except DataError:
        length = 0.0
    step = every * math.ceil(_PART_S / every) if every else _PART_S
    begin = 0.0
    for number in range(1, math.ceil(length / step)):
        yield begin, number * step
        begin = number * step
    yield begin, math.inf


def read_frames(path: Path, begin: float, end: float, every: float | None) -> Generator[VideoFrame]:
    """Yield the frames of a video whose times lie in [begin, end).

    Args:
        path: The video.
        begin: Start, in seconds.
        end: End, in seconds; infinity for the end of the video.
        every: Seconds between the frames to yield; None for every frame.

    Raises:
        DataError: The file is not a video, or is damaged; the frames before the damage are yielded first.
    """
    with _open(path) as capture:
        last = _seek(capture, begin)
        due = begin
        has_frames = False
        while capture.grab():
            time = _frame_time(capture, last)
            last = time
            if time >= end:
                return
            if time < due:
                continue
            ok, image = capture.retrieve()
            if not ok or image.ndim != 3:
                raise DataError(f"{path}: the frame at {time:.3f} s cannot be decoded")
            has_frames = True
            yield VideoFrame(np.asarray(image, np.uint8), round(time, 3))
            due = (math.floor(time / every + 1e-6) + 1) * every if every else due
        length = _length(capture)
        if not has_frames and begin == 0:
            raise DataError(f"{path}: has no frame that OpenCV can read")
        # The stated length is often an estimate.
        if has_frames and last < length * 0.98 - 1 and last < end:
            raise DataError(f"{path}: ended after {last:.0f} of about {length:.0f} s; it is damaged or incomplete")


def _seek(capture: cv2.VideoCapture, begin: float) -> float:
    """Go to a frame before ``begin``, or to the first frame.

    Returns:
        The time of the frame before the next one to be read, in seconds; -1 if that is the first.
    """
    run_up = _RUN_UP_S
    while run_up < begin:
        capture.set(cv2.CAP_PROP_POS_MSEC, (begin - run_up) * 1000)
        if capture.grab() and 0 < (time := _frame_time(capture, -1.0)) < begin:
            return time
        run_up *= 4
    if begin:
        capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
    return -1.0


def _frame_time(capture: cv2.VideoCapture, last: float) -> float:
    """Return the time of the grabbed frame, in seconds; without a usable timestamp it follows from the frame rate."""
    time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
    return time if time > last else max(last, 0.0) + (1 / _frame_rate(capture) if last >= 0 else 0.0)


def _frame_rate(capture: cv2.VideoCapture) -> float:
    return capture.get(cv2.CAP_PROP_FPS) or 25.0


def _length(capture: cv2.VideoCapture) -> float:
    return max(capture.get(cv2.CAP_PROP_FRAME_COUNT), 0.0) / _frame_rate(capture)


@contextmanager
def _open(path: Path) -> Iterator[cv2.VideoCapture]:
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where access is denied
        raise DataError(f"{path}: no such file")
    # OpenCV crashes on a name that is not UTF-8.
    with tempdirs.folder() as folder:
        link = folder / f"video{path.suffix}"
        link.symlink_to(path.resolve())
        with hide_native_stderr():
            capture = cv2.VideoCapture(str(link), cv2.CAP_FFMPEG)
        try:
            if not capture.isOpened():
                raise DataError(f"{path}: not a video that OpenCV can read")
            yield capture
        finally:
            capture.release()
