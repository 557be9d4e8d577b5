"""USB and other V4L2 cameras, and RTSP and HTTP streams, through OpenCV."""

from __future__ import annotations

import math
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.detection.resampling import FACES_ACROSS
from fer_edge.errors import SourceError, SourceLostError, first_line
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.pixel_formats import KNOWN, decode_frame
from fer_edge_device.capture.source_name import display_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

# Shortest side of the smallest face to find in a shrunk frame, in pixels: its crop is not enlarged for a classifier of
# 48x48 pixels (benchmarks/camera_decoding.py).
_MIN_SHRUNK_FACE: Final = 56
_MJPG: Final = cv2.VideoWriter.fourcc(*"MJPG")
# Formats of V4L2 that only OpenCV decodes: those of a bare colour sensor, and one that compresses them.
_LEFT_TO_OPENCV: Final = {"BA81", "GBRG", "GRBG", "S910"}
_FFMPEG_VARIABLE: Final = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_FFMPEG_OPTIONS: Final = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}
_MIN_OPEN_TIMEOUT_MS: Final = 10_000


class _OpenCvDevice:
    """A capture of OpenCV and the memory into which it decodes."""

    def __init__(self) -> None:
        self._capture: cv2.VideoCapture | None = None
        self._image: cv2.typing.MatLike | None = None

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    stop = close


class V4l2Camera(_OpenCvDevice):
    """A camera with a video node in ``/dev``.

    OpenCV leaves frames of the usual formats as the camera sends them. Grey costs less without a detour through colour,
    and OpenCV 4.11 gives some formats as a single row of bytes even if it should convert them.
    """

    def __init__(
        self, number_or_path: int | str, width: int, height: int, stall_timeout: float, *, may_shrink: bool = False
    ) -> None:
        """Choose a camera, without opening it.

        Args:
            number_or_path: the camera's video node; a path in ``/dev/v4l/by-id`` stays the same when the camera is
                plugged in again.
            width: requested frame width; the camera gives the nearest that it has.
            height: requested frame height.
            stall_timeout: seconds after which waiting for a frame fails.
            may_shrink: whether large frames may be given at half their size or less, which decodes Motion JPEG faster.
                Faces of a sixteenth of the longer side stay large enough to be found and classified.
        """
        super().__init__()
        self._may_shrink, self._reduced = may_shrink, 1
        self._pixel_format, self._is_raw = "", False
        self._frame_width = self._frame_height = 0
        self._source, self._width, self._height = number_or_path, width, height
        # For the whole process, in whole seconds: OpenCV reads it once.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(stall_timeout)))

    def open(self) -> None:
        """Open the camera; see `CaptureDevice`."""
        capture = cv2.VideoCapture(self._source, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise SourceError(f"{self._source}: cannot be opened; {_camera_advice(self._source)}")
        # USB cameras send Motion JPEG fastest. A single buffer keeps frames from growing old.
        capture.set(cv2.CAP_PROP_FOURCC, _MJPG)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._height)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture
        self._choose_decoding(capture)

    def _choose_decoding(self, capture: cv2.VideoCapture) -> None:
        """Let OpenCV leave frames as the camera sends them, if their format is known."""
        self._pixel_format = v4l2.format_name(int(capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF)
        self._frame_width = max(int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), 0)
        self._frame_height = max(int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), 0)
        self._is_raw = self._pixel_format in KNOWN and capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        longer_side = min(max(self._width, self._height), max(self._frame_width, self._frame_height))
        self._reduced = reduction(longer_side) if self._may_shrink else 1

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        if self._capture is None or not self._capture.grab():
            raise SourceLostError(f"{self._source}: gave no frame; is it unplugged or in use?")
        return True

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """Decode the frame; see `CaptureDevice`."""
        ok, self._image = self._capture.retrieve(self._image) if self._capture else (False, None)
        if not ok or self._image is None:
            return None
        if self._is_raw:
            data = np.ascontiguousarray(self._image).view(np.uint8)
            return decode_frame(data, self._pixel_format, self._frame_width, self._frame_height, self._reduced)
        return to_gray(self._image, f"{self._source} ({self._pixel_format})")


class NetworkStream(_OpenCvDevice):
    """A stream from a network address, through FFmpeg."""

    def __init__(self, address: str, stall_timeout: float, *, name: str = "") -> None:
        """Choose a stream, without opening it.

        Args:
            address: ``rtsp://...``, ``http://...`` or another address that FFmpeg knows. FFmpeg does not verify
                certificates.
            stall_timeout: seconds after which waiting for a frame fails; opening may take longer.
            name: names the stream in messages; empty: its address does.
        """
        super().__init__()
        self._address, self._name, self._stall_timeout = address, name or display_name(address), stall_timeout
        self._undecoded_jpeg = False

    def open(self) -> None:
        """Open the stream; see `CaptureDevice`."""
        stall_timeout_ms = round(self._stall_timeout * 1000)
        timeouts = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: max(_MIN_OPEN_TIMEOUT_MS, stall_timeout_ms),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: stall_timeout_ms,
        }
        try:
            with _ffmpeg_options():
                capture = cv2.VideoCapture(
                    self._address,
                    cv2.CAP_FFMPEG,
                    [number for pair in timeouts.items() for number in pair],
                )
        except cv2.error as error:
            reason = first_line(error).replace(self._address, self._name)
            raise SourceError(f"{self._name}: cannot be opened ({reason})") from None
        if not capture.isOpened():
            raise SourceError(
                f"{self._name}: cannot be opened; are address and password right, and is the camera on the network?"
            )
        # FFmpeg decodes every frame that it grabs. Images of Motion JPEG do not depend on each other, so they can be
        # left undecoded until they are needed.
        self._undecoded_jpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPG and capture.set(cv2.CAP_PROP_FORMAT, -1)
        self._capture = capture

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        if self._capture is None or not self._capture.grab():
            raise SourceLostError(f"{self._name}: the stream ended, or gave no frame for {self._stall_timeout:g} s")
        return True

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """Decode the frame; see `CaptureDevice`."""
        ok, self._image = self._capture.retrieve(self._image) if self._capture else (False, None)
        image: cv2.typing.MatLike | None = self._image
        if ok and self._undecoded_jpeg and image is not None:
            return decode_frame(np.asarray(image, np.uint8), "MJPG", 0, 0, 1)
        return to_gray(image, self._name) if ok and image is not None else None


def reduction(longer_side: int) -> int:
    """Return the factor by which frames can be shrunk without harm to faces of a sixteenth of their longer side.

    Args:
        longer_side: longer side of the frames, in pixels.

    Returns:
        1, 2, 4 or 8.
    """
    smallest_face = longer_side // FACES_ACROSS
    return max(factor for factor in (1, 2, 4, 8) if factor == 1 or smallest_face // factor >= _MIN_SHRUNK_FACE)


def to_gray(image: cv2.typing.MatLike, source_name: str) -> npt.NDArray[np.uint8]:
    """Convert an image as OpenCV gives it to grey.

    Args:
        image: uint8 of shape (rows, columns, 3), BGR, or (rows, columns), grey.
        source_name: names the source in an error.

    Raises:
        SourceLostError: the array is not an image.
    """
    if image.ndim == 3 and image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    if image.ndim == 2 and min(image.shape) > 1:
        return np.asarray(image, np.uint8)
    raise SourceLostError(f"{source_name}: gave a frame of shape {image.shape}, which is not an image")


@contextmanager
def _ffmpeg_options() -> Iterator[None]:
    """Give FFmpeg the options of a stream while it opens one; with them, a file would lose its first frames."""
    user_options = os.environ.get(_FFMPEG_VARIABLE)
    os.environ[_FFMPEG_VARIABLE] = _with_ffmpeg_options(user_options or "")
    try:
        yield
    finally:
        if user_options is None:
            del os.environ[_FFMPEG_VARIABLE]
        else:
            os.environ[_FFMPEG_VARIABLE] = user_options


def _with_ffmpeg_options(user_options: str) -> str:
    """Add our options for FFmpeg to those of the user, which win: ``key;value|key;value``."""
    options = dict(pair.split(";", 1) for pair in user_options.split("|") if ";" in pair)
    return "|".join(f"{key};{value}" for key, value in (_FFMPEG_OPTIONS | options).items())


def _camera_advice(source: int | str) -> str:
    """Return what may be wrong with a camera that cannot be opened."""
    node = v4l2.query_node(Path(f"/dev/video{source}" if isinstance(source, int) else source))
    formats = {mode.format for mode in node.modes}
    if formats and not formats & (KNOWN | _LEFT_TO_OPENCV):
        names = ", ".join(sorted(formats))
        return f"fer-edge reads none of its formats ({names}); a camera module of a Pi is the source picamera2"
    if not list(Path("/dev").glob("video*")):
        return "there is no /dev/video* on this machine: connect a camera, or try the source demo"
    return "is it connected, are you in the group video, and is no other program using it?"
