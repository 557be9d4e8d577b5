"""Sources that are not live: a video file, a folder of images, the demo; and their playback in real time.

They give every frame, with the time within the video, so that each replay gives the same result.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from fer_edge import demo
from fer_edge.errors import DataError, SourceError
from fer_edge.utils.file_kinds import IMAGE_SUFFIXES, is_system_name
from fer_edge.utils.image_io import read_gray
from fer_edge.utils.words import counted
from fer_edge.video.factory import open_video
from fer_edge_device.capture.base import Frame, NoFrameYet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fer_edge_device.capture.base import FrameSource
    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_FOLDER_FPS: Final = 10
_MIN_INTERVAL: Final = 0.001  # seconds between two frames of a video that is repeated
_READ_TIMEOUT: Final = 0.5  # seconds until `read` raises NoFrameYet, so that its caller can do other things


class _Recording:
    """Base class of these sources."""

    live: Final = False
    status: Final[CameraStatus] = "online"

    def open(self) -> None:
        """Do nothing: a recording has no device, and is not closed while frames are not wanted."""


class VideoFile(_Recording):
    """Every frame of a video file, with the times of the video."""

    def __init__(self, path: Path) -> None:
        """Open a video.

        Raises:
            SourceError: the file cannot be read as a video.
        """
        try:
            self._reader = open_video(path)
        except DataError as error:
            raise SourceError(str(error)) from error
        self._frames = self._reader.frames()
        self._number = -1
        self._has_warned = False

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next frame; None after the last.

        A video that is damaged or cut short ends like any other, with a warning in the log.

        Raises:
            SourceError: the video has no frame that can be decoded.
        """
        frame = next(self._frames, None)
        if frame is None:
            if self._number < 0:
                raise SourceError(self._reader.problem)
            if self._reader.problem and not self._has_warned:
                logger.warning("%s", self._reader.problem)
                self._has_warned = True
            return None
        self._number += 1
        return Frame(frame.gray(), round(frame.time, 3), self._number)

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


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


class LoopedVideo(_Recording):
    """A video that starts again when it ends; its times go on."""

    def __init__(self, open_video: Callable[[], FrameSource]) -> None:
        """Open the video.

        Args:
            open_video: opens it; called again at each end.

        Raises:
            SourceError: it cannot be opened.
        """
        self._open_video = open_video
        self._video = open_video()
        self._offset, self._last, self._interval = 0.0, 0.0, _MIN_INTERVAL
        self._number = -1

    def read(self, not_before: float = 0.0) -> Frame | None:  # noqa: ARG002 - for live sources
        """Return the next frame; None only if the video has become empty.

        Raises:
            SourceError: the video cannot be read any more.
        """
        frame = self._video.read()
        if frame is None:
            self._video.close()
            self._video = self._open_video()
            self._offset = self._last + self._interval
            frame = self._video.read()
        if frame is None:
            return None
        time = round(self._offset + frame.time, 3)
        self._interval = max(time - self._last, _MIN_INTERVAL)
        self._last, self._number = time, self._number + 1
        return Frame(frame.gray, time, self._number)

    def close(self) -> None:
        """Close the video."""
        self._video.close()


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
