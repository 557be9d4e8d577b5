"""Frames that are not live: a video, a folder of images, the demo; and their pace.

They give every frame, with the time within the video, so that they replay to the same result.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

import cv2

from fer_edge import demo
from fer_edge.errors import DataError, SourceError
from fer_edge.utils.image_io import IMAGE_SUFFIXES, read_gray
from fer_edge.utils.native_stderr import native_stderr_hidden
from fer_edge_device.capture.base import Frame, NoFrameYet
from fer_edge_device.capture.opencv import to_gray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge_device.capture.base import FrameSource
    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_FOLDER_FPS: Final = 10
_MOMENT: Final = 0.5  # seconds a reader is kept waiting before it may look at other things


class _Video:
    """What all of them are."""

    live: Final = False
    status: Final[CameraStatus] = "online"


class VideoFile(_Video):
    """A video file, every frame of it, with the video's own times."""

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            SourceError: it is not a video that OpenCV reads.
        """
        self._path = path
        try:
            os.fsencode(path).decode("utf-8")
        except UnicodeDecodeError as error:  # OpenCV crashes on such a name
            raise SourceError(f"{path}: its name is not UTF-8, which OpenCV cannot open; rename it") from error
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path}: cannot be read; check its permissions")
        with native_stderr_hidden():  # OpenCV and FFmpeg complain in lines of their own; ours follows
            self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise SourceError(f"{path}: not a video that OpenCV can read")
        self._fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._promised = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._number = -1
        self._time = -1.0

    def read(self) -> Frame | None:
        """The next frame; None after the last.

        A video that ends long before its container says is damaged or cut short: a warning says so.
        """
        ok, image = self._capture.read()
        if not ok:
            if self._number < 0:
                raise SourceError(f"{self._path}: has no frame that OpenCV can read")
            self._say_if_short(self._number + 1)
            return None
        self._number += 1
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # Some containers carry no usable times: go on at the nominal rate.
        self._time = stamp if stamp > self._time else max(self._time, 0.0) + (1 / self._fps if self._number else 0.0)
        return Frame(to_gray(image, str(self._path)), round(self._time, 3), self._number)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _say_if_short(self, frames: int) -> None:
        # Of many containers OpenCV only estimates the number, from duration and rate; a nonsense one is negative.
        if frames < self._promised - max(2, self._promised / 50):
            logger.warning(
                "%s: ended after %d of about %d frames; it is damaged or cut short", self._path, frames, self._promised
            )
        self._promised = 0.0


class ImageFolder(_Video):
    """A folder of images in order of name, as a video of ten a second; what cannot be read is left out."""

    def __init__(self, path: Path) -> None:
        """List a folder.

        Raises:
            SourceError: there is no image in it.
        """
        try:
            self._paths = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        except OSError as error:
            raise SourceError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
        if not self._paths:
            raise SourceError(f"{path}: no images in this folder")
        self._folder = path
        self._frames = self._read_all()

    def _read_all(self) -> Iterator[Frame]:
        readable = 0
        for number, path in enumerate(self._paths):
            try:
                gray = read_gray(path)
            except DataError as error:
                logger.warning("left out: %s", error)
                continue
            readable += 1
            yield Frame(gray, round(number / _FOLDER_FPS, 3), number)
        if not readable:
            raise SourceError(f"{self._folder}: none of its {len(self._paths)} images can be read")

    def read(self) -> Frame | None:
        """The next image; None after the last."""
        return next(self._frames, None)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class DemoVideo(_Video):
    """The embedded video: see `fer_edge.demo`."""

    def __init__(self) -> None:
        """Begin at the first frame."""
        self._number = -1

    def read(self) -> Frame | None:
        """The next frame; None after the last."""
        self._number += 1
        if self._number >= demo.FRAMES:
            return None
        return Frame(demo.frame(self._number), round(self._number / demo.FPS, 3), self._number)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class RealtimePlayback(_Video):
    """A video played no faster than it was taken."""

    def __init__(self, video: FrameSource) -> None:
        """Play ``video``; its clock starts with its first frame."""
        self._video = video
        self._next: Frame | None = None
        self._start: float | None = None

    def read(self) -> Frame | None:
        """The next frame, when its time has come; None after the last."""
        frame = self._next or self._video.read()
        if frame is None:
            return None
        if self._start is None:
            self._start = time.monotonic() - frame.time
        wait = self._start + frame.time - time.monotonic()
        if wait > _MOMENT:
            self._next = frame
            time.sleep(_MOMENT)
            raise NoFrameYet
        self._next = None
        time.sleep(max(wait, 0.0))
        return frame

    def close(self) -> None:
        """Close the video."""
        self._video.close()
