"""Where frames come from: a camera, a stream, a film, a folder of pictures, the demo.

Every source gives grey frames.  A live source gives the time of the clock and, through
`NewestFrame`, always its newest frame; any other gives the time within the film and every
frame, so that it replays to the same result.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.errors import DataError, FerEdgeError, SourceError, SourceLostError, first_line
from fer_edge.native import native_stderr_hidden
from fer_edge.pictures import PICTURE_SUFFIXES, read_gray

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

logger = logging.getLogger(__name__)

_FOLDER_FPS: Final = 10
_TRIAL: Final = 3.0  # seconds a camera that was not asked for by name has for its first frame
_PATIENCE: Final = 0.5  # seconds a reader is kept waiting before it may look at other things


class NoFrameYet(Exception):  # noqa: N818 - not a failure
    """Raised when a live source has no new frame for now; ask again."""


class Frame(NamedTuple):
    """One picture.

    Attributes:
        gray: uint8 of shape (rows, columns).
        time: seconds on a clock that is never set: a film's own, or the machine's since some start.
        number: counts from 0; a number that is left out is a frame that was dropped.
        epoch: what to add to ``time`` for seconds since 1970; 0 for a film, whose times are told as they are.
    """

    gray: npt.NDArray[np.uint8]
    time: float
    number: int
    epoch: float = 0.0


class Camera(Protocol):
    """Anything that gives frames."""

    @property
    def live(self) -> bool:
        """Whether time goes on whether a frame is taken or not."""
        ...

    def read(self) -> Frame | None:
        """The next frame; None after the last.

        Raises:
            NoFrameYet: there is none for now; ask again.
            SourceLostError: the source failed.
        """
        ...

    def close(self) -> None:
        """Let go of the device or file."""
        ...


class StreamCamera:
    """A V4L2 or USB camera, or an RTSP or HTTP stream, through OpenCV."""

    live: Final = True

    def __init__(self, source: int | str, width: int, height: int) -> None:
        """Open a camera or stream.

        Args:
            source: number or path of a camera, or the address of a stream.
            width: wanted columns; the camera gives the nearest it has.
            height: wanted rows.

        Raises:
            SourceError: it cannot be opened.
        """
        self._source = source
        network = isinstance(source, str) and "://" in source
        with native_stderr_hidden():  # OpenCV and FFmpeg complain in lines of their own; ours follows
            self._capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG if network else cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(f"{_shown(source)}: cannot be opened; {_advice(source)}")
        if not network:
            # Motion JPEG is what USB cameras send fast; one buffer is what keeps frames new.
            self._capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
            self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, width)
            self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
            self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._number = -1

    def read(self) -> Frame:
        """Wait for the next frame."""
        ok, picture = self._capture.read()
        if not ok:
            raise SourceLostError(f"{_shown(self._source)}: gave no frame; is it unplugged or in use?")
        self._number += 1
        return _live_frame(_to_gray(picture, _shown(self._source)), self._number)

    def close(self) -> None:
        """Let go of the camera."""
        self._capture.release()


class PiCamera:
    """A camera module, through picamera2: the luma plane of its small stream is the grey frame, unconverted."""

    live: Final = True

    def __init__(self, width: int, height: int) -> None:
        """Start the camera.

        Args:
            width: wanted columns of a frame; the camera's alignment may change them a little.
            height: wanted rows of a frame.

        Raises:
            SourceError: picamera2 or a camera is missing, or the camera is in use.
        """
        try:
            from picamera2 import Picamera2  # noqa: PLC0415 - comes from Raspberry Pi OS, not from PyPI
        except Exception as error:  # a package built for another NumPy raises ValueError
            raise SourceError(
                f"picamera2 cannot be imported ({first_line(error)}); run: sudo apt install python3-picamera2,"
                " and make the venv with --system-site-packages"
            ) from error
        try:
            self._camera: Any = Picamera2()
        except Exception as error:  # IndexError for no camera, RuntimeError for one in use
            raise SourceError(_pi_camera_failed(error)) from error
        try:
            size = {"size": (width, height)}
            # The main stream has the same size: the small one may not be larger, nor of another shape.
            self._camera.configure(
                self._camera.create_video_configuration(main=size, lores={**size, "format": "YUV420"}, buffer_count=3)
            )
            self._width, self._height = self._camera.camera_configuration()["lores"]["size"]
            self._camera.start()
        except Exception as error:
            self._camera.close()
            raise SourceError(_pi_camera_failed(error)) from error
        self._number = -1

    def read(self) -> Frame:
        """Wait for the next frame."""
        planes = self._camera.capture_array("lores")
        self._number += 1
        # YUV420 is the luma plane, `height` rows, with the colour planes below; rows may be padded.
        return _live_frame(planes[: self._height, : self._width], self._number)

    def close(self) -> None:
        """Stop the camera."""
        self._camera.stop()
        self._camera.close()


class FilmFile:
    """A video file, every frame of it, with the film's own times."""

    live: Final = False

    def __init__(self, path: Path) -> None:
        """Open a film.

        Raises:
            SourceError: it is not a film that OpenCV reads.
        """
        self._path = path
        try:
            os.fsencode(path).decode("utf-8")
        except UnicodeDecodeError as error:  # OpenCV crashes on such a name
            raise SourceError(f"{path}: its name is not UTF-8, which OpenCV cannot open; rename it") from error
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path}: cannot be read; check its permissions")
        with native_stderr_hidden():
            self._capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise SourceError(f"{path}: not a film that OpenCV can read")
        self._fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._number = -1
        self._time = -1.0

    def read(self) -> Frame | None:
        """The next frame; None after the last."""
        ok, picture = self._capture.read()
        if not ok:
            if self._number < 0:
                raise SourceError(f"{self._path}: has no frame that OpenCV can read")
            return None
        self._number += 1
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        # Some containers carry no usable times: go on at the nominal rate.
        self._time = stamp if stamp > self._time else max(self._time, 0.0) + (1 / self._fps if self._number else 0.0)
        return Frame(_to_gray(picture, str(self._path)), round(self._time, 3), self._number)

    def close(self) -> None:
        """Close the file."""
        self._capture.release()


class PictureFolder:
    """A folder of pictures in order of name, as a film of ten a second; what cannot be read is left out."""

    live: Final = False

    def __init__(self, path: Path) -> None:
        """List a folder.

        Raises:
            SourceError: there is no picture in it.
        """
        try:
            self._paths = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
        except OSError as error:
            raise SourceError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
        if not self._paths:
            raise SourceError(f"{path}: no pictures in this folder")
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
            raise SourceError(f"{self._folder}: none of its {len(self._paths)} pictures can be read")

    def read(self) -> Frame | None:
        """The next picture; None after the last."""
        return next(self._frames, None)

    def close(self) -> None:
        """Do nothing: no file stays open."""


class DemoFilm:
    """The embedded film: see `fer_edge.demo`."""

    live: Final = False

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


class Paced:
    """A film played no faster than it was taken."""

    live: Final = False

    def __init__(self, film: Camera) -> None:
        """Play ``film``; its clock starts with its first frame."""
        self._film = film
        self._next: Frame | None = None
        self._start: float | None = None

    def read(self) -> Frame | None:
        """The next frame, when its time has come; None after the last."""
        frame = self._next or self._film.read()
        if frame is None:
            return None
        if self._start is None:
            self._start = time.monotonic() - frame.time
        wait = self._start + frame.time - time.monotonic()
        if wait > _PATIENCE:
            self._next = frame
            time.sleep(_PATIENCE)
            raise NoFrameYet
        self._next = None
        time.sleep(max(wait, 0.0))
        return frame

    def close(self) -> None:
        """Close the film."""
        self._film.close()


class NewestFrame:
    """A live camera read on a thread of its own: whoever asks gets the newest frame, older ones are dropped."""

    live: Final = True

    def __init__(self, camera: Camera) -> None:
        """Start reading ``camera``."""
        self._camera = camera
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._ended: FerEdgeError | None = None
        self._closing = False
        # A daemon, because a driver that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="camera", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._closing:
            frame: Frame | None = None
            ended: FerEdgeError | None
            try:
                frame = self._camera.read()
                ended = None if frame else SourceLostError("the camera ended its stream")
            except FerEdgeError as error:
                ended = error
            except Exception as error:  # noqa: BLE001 - whatever a driver raises must reach the reader
                ended = SourceLostError(f"the camera failed: {first_line(error)}")
            with self._changed:
                self._frame, self._ended = frame, ended
                self._changed.notify_all()
            if ended:
                break

    def wait(self, seconds: float) -> None:
        """Wait for a first frame, without taking it.

        Raises:
            SourceLostError: the camera failed, or gave none.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame or self._ended, seconds):
                raise SourceLostError(f"the camera gave no frame for {seconds:g} s")
            if self._ended:
                raise self._ended

    def read(self) -> Frame | None:
        """The newest frame that was not given yet; waits for one, a moment.

        Raises:
            NoFrameYet: none came.
            SourceLostError: the camera failed.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._frame or self._ended, _PATIENCE):
                raise NoFrameYet
            if self._ended:
                raise self._ended
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Stop reading and let go of the camera."""
        self._closing = True
        self._thread.join(timeout=2)
        if not self._thread.is_alive():
            self._camera.close()


def open_camera(source: str, *, width: int = 640, height: int = 480, realtime: bool | None = None) -> Camera:
    """Open a source by its name on the command line.

    Args:
        source: ``auto``, ``picamera2``, ``demo``, a camera's number or path, a stream's address, a film or a folder.
        width: wanted columns of a live camera's frames.
        height: wanted rows.
        realtime: whether a film plays no faster than it was taken; by default only the demo does.

    Raises:
        SourceError: there is no such source, or it cannot be opened.
    """
    if source == "auto":
        return _open_any(width, height)
    if source == "picamera2":
        return NewestFrame(PiCamera(width, height))
    is_number = source.isascii() and source.isdecimal() and len(source) < 4
    if is_number or source.startswith("/dev/") or "://" in source:
        return NewestFrame(StreamCamera(int(source) if is_number else source, width, height))
    film: Camera
    path = Path(source) if source else Path("/nonexistent")  # the empty path would be the current folder
    if source == "demo":
        film = DemoFilm()
    elif path.is_dir():
        film = PictureFolder(path)
    elif path.is_file():
        film = FilmFile(path)
    else:
        raise SourceError(
            f"no source {_shown(source)!r}: give auto, picamera2, demo, a camera's number or /dev/video path,"
            " rtsp://..., a film or a folder of pictures"
        )
    return Paced(film) if (source == "demo" if realtime is None else realtime) else film


def _open_any(width: int, height: int) -> Camera:
    tried = []
    try:
        return NewestFrame(PiCamera(width, height))
    except SourceError as error:
        tried.append(str(error))
    # A camera has several nodes, and a Pi's own codecs have some too: only some give pictures.
    for path in sorted(Path("/dev").glob("video*"), key=lambda path: (len(path.name), path.name)):
        camera = None
        try:
            camera = NewestFrame(StreamCamera(str(path), width, height))
            camera.wait(_TRIAL)
        except FerEdgeError as error:
            tried.append(str(error))
            if camera:
                camera.close()
        else:
            return camera
    if len(tried) == 1:
        tried.append("there is no /dev/video*")
    raise SourceError(f"no camera found ({'; '.join(tried)}); connect one, or try --source demo")


def _to_gray(picture: cv2.typing.MatLike, name: str) -> npt.NDArray[np.uint8]:
    if picture.ndim == 3 and picture.shape[2] == 3:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    if picture.ndim == 2 and min(picture.shape) > 1:
        return np.asarray(picture, np.uint8)
    # OpenCV 4.11 gives undecoded data as one row for some cameras' formats.
    raise SourceLostError(
        f"{name}: gave a frame of shape {picture.shape}, which is no picture; try another --width/--height"
    )


def _live_frame(gray: npt.NDArray[np.uint8], number: int) -> Frame:
    """A frame of now; a clock that is set meanwhile, as at boot, changes what is told but no duration."""
    steady = time.monotonic()
    return Frame(gray, steady, number, time.time() - steady)


def _pi_camera_failed(error: Exception) -> str:
    return f"picamera2: {first_line(error)}; is the camera connected, and no other program using it?"


def _shown(source: int | str) -> str:
    """A source's name without what may be secret in it: of an address, the scheme and the host alone."""
    scheme, mark, rest = str(source).partition("://")
    if mark:
        return f"{scheme}://{rest.partition('/')[0].partition('?')[0].rpartition('@')[2]}"
    return scheme.rpartition("@")[2]


def _advice(source: int | str) -> str:
    if isinstance(source, str) and "://" in source:
        return "is the address right and the camera on the network?"
    if sys.platform == "linux" and not list(Path("/dev").glob("video*")):
        return "there is no /dev/video* on this machine: connect a camera, or try --source demo"
    return "is it connected, are you in the group video, and is no other program using it?"
