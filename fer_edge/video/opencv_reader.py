"""Reading videos with OpenCV, where PyAV is not installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.errors import DataError, printable
from fer_edge.utils.address_space import bounded_address_space
from fer_edge.utils.limits import VIDEO_PIXELS
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge.video.memory import DecoderMemory
from fer_edge.video.timestamps import Clock
from fer_edge.video.truncation import describe_truncation, missing_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_RUN_UP_S: Final = 2.0  # decoding a frame takes some before it; only the decoder knows how many
_FRAME_THREADS_PIXELS: Final = 1 << 23  # 4K; larger frames are decoded one at a time
_THREADS: Final = os.cpu_count() or 1  # of a decoder
_NO_START_S: Final = -1e6  # OpenCV 4.11 gives such times for a stream that does not state its start


class OpenCvFrame:
    """A decoded frame; see `fer_edge.video.base.VideoFrame`. The next one overwrites it."""

    def __init__(self, capture: cv2.VideoCapture, time: float) -> None:
        """Keep the grabbed frame of a capture.

        Args:
            capture: the capture.
            time: seconds from the start of the video.
        """
        self._capture, self.time = capture, time
        self._image: npt.NDArray[np.uint8] | None = None

    def gray(self) -> npt.NDArray[np.uint8]:
        """Return the upright frame in grey, uint8 of shape (rows, columns)."""
        return np.asarray(cv2.cvtColor(self.bgr(), cv2.COLOR_BGR2GRAY), np.uint8)

    def bgr(self) -> npt.NDArray[np.uint8]:
        """Return the upright frame in colour, uint8 of shape (rows, columns, 3).

        Raises:
            DataError: the frame cannot be decoded.
        """
        if self._image is None:
            ok, image = self._capture.retrieve()
            if not ok or image.ndim != 3:
                raise DataError(f"the frame at {self.time:.3f} s cannot be decoded")
            self._image = np.asarray(image, np.uint8)
        return self._image


class OpenCvReader:
    """An open video; see `fer_edge.video.base.VideoReader`.

    It takes the first stream of video, and cannot tell damage from the end.
    """

    def __init__(self, path: Path) -> None:
        """Open a video.

        Args:
            path: the file.

        Raises:
            DataError: the file cannot be read as a video.
        """
        self._path = path
        try:
            # OpenCV crashes on a name that is not UTF-8, so it gets another name of the file.
            with hide_native_stderr(), path.open("rb") as file, bounded_address_space(threads=_THREADS):
                is_utf8 = printable(str(path)) == str(path)
                name = str(path.absolute()) if is_utf8 else f"/proc/self/fd/{file.fileno()}"
                self._capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
                if self._pixels > _FRAME_THREADS_PIXELS:
                    self._capture.open(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        if not self._capture.isOpened():
            self._capture.release()
            reason = ": it is cut short; copy it again" if missing_bytes(path) else ""
            raise DataError(f"{path}: not a video that OpenCV can read{reason}")
        if self._pixels > VIDEO_PIXELS:
            self._capture.release()
            raise DataError(f"{path}: refused, its frames have more than {VIDEO_PIXELS // 1_000_000} million pixels")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # off in OpenCV 4
        self._rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._clock = Clock(self._rate)
        self._start: float | None = None
        self._memory = DecoderMemory()
        self.problem = ""

    @property
    def duration(self) -> float | None:
        """Length in seconds, by the number of frames that the container states; None if it states none."""
        frames = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        return frames / self._rate if frames > 0 and self._rate > 0 else None

    def frames(self, begin: float = 0.0) -> Iterator[OpenCvFrame]:
        """Yield the frames in order of their times; see `fer_edge.video.base.VideoReader`."""
        if begin:
            self._seek(begin)
        has_frames = False
        while self._grab():
            yield OpenCvFrame(self._capture, self._clock.next(self._position(is_first=not has_frames and not begin)))
            has_frames = True
        if self._memory.is_too_much:
            self.problem = self._memory.problem(self._path, self._clock.last)
        elif problem := describe_truncation(self._path, self._clock.last):
            self.problem = problem
        elif not has_frames and not begin:
            self.problem = f"{self._path}: has no frame that OpenCV can decode"

    def close(self) -> None:
        """Close the file."""
        self._capture.release()

    @property
    def _pixels(self) -> int:
        """Pixels of a frame."""
        sides = (self._capture.get(cv2.CAP_PROP_FRAME_WIDTH), self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        return int(sides[0] * sides[1])

    def _grab(self) -> bool:
        """Decode the next frame, and return whether there is one that may be used."""
        self._memory.expect(self._pixels)
        with self._memory, bounded_address_space(threads=_THREADS):
            grabbed = self._capture.grab()
        return grabbed and self._pixels <= VIDEO_PIXELS and not self._memory.is_too_much

    def _position(self, *, is_first: bool) -> float | None:
        """Return the time of the grabbed frame; None if the stream has no times."""
        position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if is_first and position < _NO_START_S:
            self._start = position
        position -= self._start or 0.0
        return position if is_first or position > 0 else None

    def _seek(self, begin: float) -> None:
        """Go to a frame before ``begin``, or to the first frame."""
        run_up = _RUN_UP_S
        while run_up < begin:
            self._capture.set(cv2.CAP_PROP_POS_MSEC, (begin - run_up) * 1000)
            if self._capture.grab() and 0 < self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 < begin:
                return
            run_up *= 4
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
