"""Read videos in parts, so that several processes can work on one: each frame belongs to one part by its time."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Final

from fer_edge.errors import DataError
from fer_edge.utils.worker import report_progress
from fer_edge.video.factory import open_video

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from fer_edge.video.base import VideoFrame

_PART_S: Final = 60.0
_ROUNDING_S: Final = 1e-6  # three times 0.2 is a little more than 0.6
_MIN_BYTES_PER_S: Final = 10  # a damaged header can state any length, and each part costs opening the video again


def measure_video(path: Path) -> float:
    """Return the length of a video in seconds; 0 if it is unknown, or if the video cannot be read in parts."""
    try:
        with closing(open_video(path, threads=1)) as reader:
            duration = reader.duration or 0.0
            return duration if duration * _MIN_BYTES_PER_S <= path.stat().st_size else 0.0
    except (DataError, OSError):
        return 0.0


def measure_videos(paths: list[Path]) -> Iterator[float]:
    """Yield the length of each video; see `measure_video`."""
    return map(measure_video, paths)


def split_video(duration: float, every: float | None) -> Iterator[tuple[float, float]]:
    """Yield begin and end of each part of a video, in seconds.

    Args:
        duration: length of the video in seconds; 0 for a video that is one part.
        every: seconds between the processed frames; None for every frame.
    """
    step = every * math.ceil(_PART_S / every) if every else _PART_S
    begin = 0.0
    for number in range(1, math.ceil(duration / step)):
        yield begin, number * step
        begin = number * step
    yield begin, math.inf


def read_frames(path: Path, begin: float, end: float, every: float | None) -> Generator[VideoFrame]:
    """Yield the frames of a video whose times lie in [begin, end).

    Args:
        path: the video.
        begin: start, in seconds.
        end: end, in seconds; infinity for the end of the video.
        every: seconds between the frames to yield; None for every frame.

    Raises:
        DataError: the file is not a video, or is damaged or cut short; the frames that can be read are yielded first.
    """
    with closing(open_video(path, threads=1)) as reader:
        due = begin
        for frame in reader.frames(begin):
            report_progress()
            if frame.time >= end:
                break
            if frame.time < due - _ROUNDING_S:
                continue
            yield frame
            due = (math.floor(frame.time / every + 1e-6) + 1) * every if every else due
        if reader.problem:
            raise DataError(reader.problem)
