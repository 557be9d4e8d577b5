"""USB and other V4L2 cameras, and RTSP and HTTP streams, through OpenCV."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.errors import SourceError, SourceLostError, first_line

if TYPE_CHECKING:
    import numpy.typing as npt

_MJPG: Final = cv2.VideoWriter.fourcc(*"MJPG")
_OPTIONS: Final = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OPENING_MS: Final = 10_000
_OURS: Final = {"rtsp_transport": "tcp", "fflags": "nobuffer", "flags": "low_delay"}


class _Opened:
    """A capture of OpenCV's, and the memory that it decodes into."""

    def __init__(self) -> None:
        self._capture: cv2.VideoCapture | None = None
        self._image: cv2.typing.MatLike | None = None

    def close(self) -> None:
        """Let go of it."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    stop = close


class V4l2Camera(_Opened):
    """A camera with a node in ``/dev``."""

    def __init__(self, source: int | str, width: int, height: int, stall_s: float) -> None:
        """Say which camera.

        Args:
            source: its number or path; a path under ``/dev/v4l/by-id`` stays the camera's when it is plugged in again.
            width: wanted columns; the camera gives the nearest it has.
            height: wanted rows.
            stall_s: seconds after which waiting for a frame fails.
        """
        super().__init__()
        self._source, self._width, self._height = source, width, height
        # In whole seconds, and of the whole process: OpenCV reads it once.
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(math.ceil(stall_s)))

    def open(self) -> None:
        """Open it; see `CaptureDevice`."""
        capture = cv2.VideoCapture(self._source, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise SourceError(f"{self._source}: cannot be opened; {_camera_advice()}")
        # Motion JPEG is what USB cameras send fast; one buffer is what keeps frames new.
        capture.set(cv2.CAP_PROP_FOURCC, _MJPG)
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._width)
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._height)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture = capture

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        if self._capture is None or not self._capture.grab():
            raise SourceLostError(f"{self._source}: gave no frame; is it unplugged or in use?")
        return True

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """Decode the frame; see `CaptureDevice`."""
        ok, self._image = self._capture.retrieve(self._image) if self._capture else (False, None)
        return to_gray(self._image, str(self._source)) if ok and self._image is not None else None


class NetworkStream(_Opened):
    """A stream by its address, through FFmpeg."""

    def __init__(self, address: str, stall_s: float) -> None:
        """Say which stream.

        Args:
            address: ``rtsp://...``, ``http://...`` or what else FFmpeg knows.
            stall_s: seconds after which waiting for a frame fails; opening it may take longer.
        """
        super().__init__()
        self._address, self._name, self._stall_s = address, shown(address), stall_s
        os.environ[_OPTIONS] = _with_ours(os.environ.get(_OPTIONS, ""))
        self._jpeg = False

    def open(self) -> None:
        """Open it; see `CaptureDevice`."""
        timeouts = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: max(_OPENING_MS, round(self._stall_s * 1000)),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: round(self._stall_s * 1000),
        }
        try:
            capture = cv2.VideoCapture(
                self._address,
                cv2.CAP_FFMPEG,
                [number for pair in timeouts.items() for number in pair],
            )
        except cv2.error as error:
            what = first_line(error).replace(self._address, self._name)
            raise SourceError(f"{self._name}: cannot be opened ({what})") from None
        if not capture.isOpened():
            raise SourceError(
                f"{self._name}: cannot be opened; are address and password right, and is the camera on the network?"
            )
        # FFmpeg decodes what it grabs; images of Motion JPEG, which stand alone, can be left as they come.
        self._jpeg = int(capture.get(cv2.CAP_PROP_FOURCC)) == _MJPG and capture.set(cv2.CAP_PROP_FORMAT, -1)
        self._capture = capture

    def grab(self) -> bool:
        """Wait for the next frame; see `CaptureDevice`."""
        if self._capture is None or not self._capture.grab():
            raise SourceLostError(f"{self._name}: the stream ended, or gave no frame for {self._stall_s:g} s")
        return True

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """Decode the frame; see `CaptureDevice`."""
        ok, self._image = self._capture.retrieve(self._image) if self._capture else (False, None)
        image: cv2.typing.MatLike | None = self._image
        if ok and self._jpeg and image is not None:
            image = cv2.imdecode(image.reshape(-1), cv2.IMREAD_GRAYSCALE)
        return to_gray(image, self._name) if ok and image is not None else None


def to_gray(image: cv2.typing.MatLike, name: str) -> npt.NDArray[np.uint8]:
    """An image as OpenCV gives it, in grey.

    Raises:
        SourceLostError: it is no image.
    """
    if image.ndim == 3 and image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    if image.ndim == 2 and min(image.shape) > 1:
        return np.asarray(image, np.uint8)
    # OpenCV 4.11 gives undecoded data as one row for some cameras' formats.
    raise SourceLostError(
        f"{name}: gave a frame of shape {image.shape}, which is no image; try another --width/--height"
    )


def shown(source: str) -> str:
    """A source's name without what may be secret in it: of an address, the scheme and the host alone."""
    scheme, mark, rest = source.partition("://")
    if mark:
        place, *after = re.split("[/?#]", rest, maxsplit=1)
        # A password may hold any character: where it ends is not sure then.
        return f"{scheme}://{'...' if '@' in ''.join(after) else place.rpartition('@')[2]}"
    return scheme.rpartition("@")[2]


def _with_ours(given: str) -> str:
    """OpenCV's options for FFmpeg, ``key;value|key;value``: the user's own, and ours where they say nothing."""
    options = dict(pair.split(";", 1) for pair in given.split("|") if ";" in pair)
    return "|".join(f"{key};{value}" for key, value in (_OURS | options).items())


def _camera_advice() -> str:
    if not list(Path("/dev").glob("video*")):
        return "there is no /dev/video* on this machine: connect a camera, or try --source demo"
    return "is it connected, are you in the group video, and is no other program using it?"
