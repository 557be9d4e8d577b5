"""Readers of videos, by PyAV and by OpenCV."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.tagging.input.video import measure_video
from fer_edge.video.factory import open_video
from fer_edge.video.opencv_reader import OpenCvReader
from tests.videos import make_video

from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fer_edge.video.base import VideoReader

_FORMATS: Final = (
    *(("v.mp4", "libx264", None), ("v.mov", "libx264", None), ("v.mkv", "libx264", None), ("v.avi", "mjpeg", None)),
    *(("v.h264", "libx264", "h264"), ("v.ts", "libx264", "mpegts"), ("v.webm", "libvpx", None)),
    *(("v.mjpeg", "mjpeg", "mjpeg"), ("v.flv", "libx264", None)),
)
_MAX_FRAMES: Final = 30


def video_readers() -> Iterator[Reader]:
    """Yield the readers."""
    with tempfile.TemporaryDirectory() as folder:
        for name, codec, container in _FORMATS:
            path = make_video(Path(folder, name), range(0, 600, 100), codec=codec, container=container)
            yield Reader(name, (path.read_bytes(),), _read_with_pyav, cost=20)
            if name in {"v.mp4", "v.mkv", "v.avi"}:
                yield Reader(f"opencv-{name}", (path.read_bytes(),), _read_with_opencv, cost=40)


def _read_with_pyav(path: Path) -> None:
    measure_video(path)
    _read(open_video(path, threads=1), 0.0)
    _read(open_video(path, threads=1), 0.3)


def _read_with_opencv(path: Path) -> None:
    _read(OpenCvReader(path), 0.0)


def _read(reader: VideoReader, begin: float) -> None:
    with closing(reader):
        for number, frame in enumerate(itertools.islice(reader.frames(begin), _MAX_FRAMES)):
            frame.gray()
            if number % 7 == 0:
                frame.bgr()
        assert "\n" not in reader.problem
