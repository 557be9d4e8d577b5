"""Sources that are not live: a video file, a folder of images, the demo; and their playback in real time.

They give every frame, with the time within the video, so that each replay gives the same result.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING, Final

import cv2

from fer_edge import demo
from fer_edge.errors import DataError, SourceError
from fer_edge.utils.file_kinds import IMAGE_SUFFIXES, is_system_name
from fer_edge.utils.image_io import read_gray
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge.utils.words import counted
from fer_edge_device.capture.base import Frame, NoFrameYet
from fer_edge_device.capture.opencv import to_gray

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge_device.capture.base import FrameSource
    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_FOLDER_FPS: Final = 10
_READ_TIMEOUT: Final = 0.5  # seconds until `read` raises NoFrameYet, so that its caller can do other things


class _Recording:
    """What these sources have in common."""

    live: Final = False
    status: Final[CameraStatus] = "online"

    def open(self) -> None:
        """Do nothing: a recording has no device, and is not closed while frames are not wanted."""


class VideoFile(_Recording):
    """Every frame of a video file, with the times of the video."""

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            SourceError: the file cannot be read, or OpenCV cannot read it as a video.
        """
        self._path = path
        try:
            os.fsencode(path).decode("utf-8")
        except UnicodeDecodeError as error:  # OpenCV crashes on such a name
            raise SourceError(f"{path}: its name is not UTF-8, so OpenCV cannot open it; rename the file") from error
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path}: cannot be read; check its permissions")
        with hide_native_stderr():  # OpenCV and FFmpeg print their own errors; ours follows
            self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise SourceError(f"{path}: not a video that OpenCV can read")
        self._fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._expected_frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._number = -1
        self._time = -1.0

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next frame; None after the last.

        A video that ends long before its container says is damaged or truncated: that is logged as a warning.

        Raises:
            SourceError: the video has no frame that OpenCV can read.
        """
        ok, image = self._capture.read()
        if not ok:
            if self._number < 0:
                raise SourceError(f"{self._path}: has no frame that OpenCV can read")
            self._warn_if_truncated(self._number + 1)
            return None
        self._number += 1
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # Some containers have no usable times: continue at the nominal frame rate.
        step = 1 / self._fps if self._number else 0.0
        self._time = position if position > self._time else max(self._time, 0.0) + step
        return Frame(to_gray(image, str(self._path)), round(self._time, 3), self._number)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    def _warn_if_truncated(self, frames: int) -> None:
        # For many containers OpenCV estimates the number of frames from duration and rate, and it may be negative.
        if frames < self._expected_frames - max(2, self._expected_frames / 50):
            logger.warning(
                "%s: ended after %d of about %d frames; the video is damaged or truncated",
                self._path,
                frames,
                self._expected_frames,
            )
        self._expected_frames = 0.0


class ImageFolder(_Recording):
    """The images of a folder in order of name, as a video of ten frames per second. Unreadable images are skipped."""

    def __init__(self, path: Path) -> None:
        """List a folder.

        Raises:
            SourceError: the folder cannot be listed or has no images.
        """
        try:
            visible = (p for p in path.iterdir() if not is_system_name(p.name))
            self._paths = sorted(p for p in visible if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
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
                logger.warning("skipped: %s", error)
                continue
            readable += 1
            yield Frame(gray, round(number / _FOLDER_FPS, 3), number)
        if not readable:
            raise SourceError(
                f"{self._folder}: {counted(len(self._paths), 'image')} in this folder, but none can be read"
            )

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next image; None after the last.

        Raises:
            SourceError: no image in the folder can be read.
        """
        return next(self._frames, None)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class DemoVideo(_Recording):
    """The embedded video; see `fer_edge.demo`."""

    def __init__(self) -> None:
        """Start at the first frame."""
        self._number = -1

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next frame; None after the last."""
        self._number += 1
        if self._number >= demo.FRAMES:
            return None
        return Frame(demo.frame(self._number), round(self._number / demo.FPS, 3), self._number)

    def close(self) -> None:
        """Do nothing: nothing is open."""


class RealtimePlayback(_Recording):
    """A video that plays no faster than it was recorded."""

    def __init__(self, video: FrameSource) -> None:
        """Play a video. Its clock starts with its first frame.

        Args:
            video: a source that is not live.
        """
        self._video = video
        self._next: Frame | None = None
        self._start: float | None = None

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next frame when it is due; None after the last.

        Raises:
            NoFrameYet: the frame is not due yet.
        """
        frame = self._next or self._video.read()
        if frame is None:
            return None
        if self._start is None:
            self._start = time.monotonic() - frame.time
        wait = self._start + frame.time - time.monotonic()
        if wait > _READ_TIMEOUT:
            self._next = frame
            time.sleep(_READ_TIMEOUT)
            raise NoFrameYet
        self._next = None
        time.sleep(max(wait, 0.0))
        return frame

    def close(self) -> None:
        """Close the video."""
        self._video.close()
