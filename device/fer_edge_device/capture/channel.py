"""The messages and the memory that a runner shares with the process that reads its camera.

Messages go through a socket, which keeps their order and ends with either process. The runner asks for one frame at a
time. The camera's process writes it into memory that both have mapped, and answers; until the next request, it leaves
that memory alone. Neither that memory nor the page in `SharedState` has a name, so nothing stays behind when a process
is killed.
"""

from __future__ import annotations

import mmap
import os
import socket
import sys
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge_device.config.settings import CameraSettings

if TYPE_CHECKING:
    import numpy.typing as npt

_MAX_MESSAGE: Final = 65_536  # bytes
_INT: Final = 4  # bytes of a descriptor in a message
_FLAGS: Final = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """How long a camera is waited for, in seconds.

    Attributes:
        stall: without a frame, until the device is opened again.
        give_up: without a frame, until the source counts as lost.
        hang: within one call of the driver, until its process is killed; longer than the device's own time-outs.
        trial: from the opening to the first frame, for one of several devices that are tried in turn.
        enumeration: to find out which camera modules there are.
        min_delay: before the device is opened again for the first time.
        max_delay: before it is opened again after several failures.
        max_first_delay: the same while it has not given a frame yet.
    """

    stall: float
    give_up: float
    hang: float
    trial: float = 3.0
    enumeration: float = 45.0
    min_delay: float = 0.5
    max_delay: float = 30.0
    max_first_delay: float = 5.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """The task of a camera's process.

    Attributes:
        settings: the camera to read; None to list the cameras of this machine.
        timeouts: how long to wait.
        may_shrink: as for `fer_edge_device.capture.opencv.V4l2Camera`.
        has_given_frames: whether the camera gave frames to an earlier process, and is to be opened again.
        skipped: what hung when it was tried before, such as ``/dev/video3``, and what happened; it is left out.
        log_levels: lowest level to log, by logger.
    """

    settings: CameraSettings | None
    timeouts: Timeouts
    may_shrink: bool = False
    has_given_frames: bool = False
    skipped: dict[str, str] = {}
    log_levels: dict[str, int] = {}


class Request(msgspec.Struct, frozen=True, tag=True):
    """The runner wants a frame; see `SharedState.not_before`.

    Attributes:
        missed: whether it did not take the last one, because a newer one had come.
    """

    missed: bool


class Given(msgspec.Struct, frozen=True, tag=True):
    """The frame that was asked for is in the shared memory; the attributes are those of `Frame`."""

    rows: int
    columns: int
    number: int
    time: float
    epoch: float
    dropped: int


class NewMemory(msgspec.Struct, frozen=True, tag=True):
    """From now on, frames are in the memory whose descriptor comes with this message."""


class Trying(msgspec.Struct, frozen=True, tag=True):
    """A driver is called that may hang.

    Attributes:
        candidate: what is tried; it could be left out.
        failure: what has happened if this process must be killed now.
    """

    candidate: str
    failure: str


class Online(msgspec.Struct, frozen=True, tag=True):
    """Frames arrive, for the first time or again.

    Attributes:
        source: the camera that gives them, as in `CameraSettings`.
    """

    source: str


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The camera could not be opened or has failed; it is opened again later.

    Attributes:
        failure: what happened.
        delay: seconds until it is opened again.
    """

    failure: str
    delay: float


class LogLine(msgspec.Struct, frozen=True, tag=True):
    """A line for the runner's log."""

    level: int
    logger: str
    text: str


class Result(msgspec.Struct, frozen=True, tag=True):
    """A part of the result of a task other than reading a camera, as JSON."""

    data: bytes


FromCamera = Given | NewMemory | Trying | Online | Failed | LogLine | Result
_FROM_CAMERA: Final = msgspec.msgpack.Decoder(FromCamera)
_FROM_RUNNER: Final = msgspec.msgpack.Decoder(Request)


class Channel:
    """One end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        """Use an end of a Unix socket of the kind SOCK_SEQPACKET."""
        self._socket = end

    def send(self, message: Request | FromCamera, descriptor: int | None = None) -> None:
        """Send a message, and wait while the other process does not take any.

        Raises:
            OSError: the other process has ended.
        """
        socket.send_fds(self._socket, [msgspec.msgpack.encode(message)], [] if descriptor is None else [descriptor])

    def send_if_possible(self, message: FromCamera) -> None:
        """Send a message, unless the other process does not take it now.

        Raises:
            OSError: it does not.
        """
        self._socket.send(msgspec.msgpack.encode(message), socket.MSG_DONTWAIT)

    def receive_request(self) -> Request | None:
        """Return the runner's next message; None if there is none.

        Raises:
            EOFError: the runner has ended, or wants this process to end.
        """
        found = self._receive()
        return _FROM_RUNNER.decode(found[0]) if found else None

    def receive(self) -> tuple[FromCamera, int | None] | None:
        """Return the next message of the camera's process, and a descriptor that came with it; None without a message.

        Raises:
            EOFError: that process has ended, or sent a message that cannot be decoded.
        """
        found = self._receive()
        try:
            return (_FROM_CAMERA.decode(found[0]), found[1]) if found else None
        except msgspec.DecodeError as error:  # a native library has written into our socket
            raise EOFError from error

    def _receive(self) -> tuple[bytes, int | None] | None:
        try:
            # Not socket.recv_fds, which ignores the flags.
            data, ancillary, _, _ = self._socket.recvmsg(_MAX_MESSAGE, socket.CMSG_LEN(_INT), _FLAGS)
        except BlockingIOError:
            return None
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return data, int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else None

    def fileno(self) -> int:
        """Return the descriptor, which is readable when a message has come."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end, which the other process sees as the end of the messages."""
        self._socket.close()


class SharedState:
    """Numbers that either process may read at any time; a page that both have mapped.

    Times are on the monotonic clock, in seconds.

    Attributes:
        descriptor: of the page, for the other process.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        """Map a page.

        Args:
            descriptor: the page of the other process; None makes one.
        """
        if descriptor is None:
            descriptor = os.memfd_create("fer-edge-camera-state")
            os.ftruncate(descriptor, mmap.PAGESIZE)
        self.descriptor = descriptor
        self._values = memoryview(mmap.mmap(descriptor, mmap.PAGESIZE)).cast("d")

    @property
    def deadline(self) -> float:
        """When the present call of the driver must have ended; set by the camera's process."""
        return self._values[0]

    @deadline.setter
    def deadline(self, time: float) -> None:
        self._values[0] = time

    @property
    def newest_number(self) -> int:
        """Number of the newest frame, -1 before the first; set by the camera's process."""
        return int(self._values[1]) - 1

    @property
    def newest_time(self) -> float:
        """When the newest frame came, 0 before the first; set by the camera's process."""
        return self._values[2]

    def set_newest(self, number: int, time: float) -> None:
        """Set number and time of the newest frame."""
        self._values[1], self._values[2] = number + 1, time

    @property
    def not_before(self) -> float:
        """When the next frame is wanted; set by the runner."""
        return self._values[3]

    @not_before.setter
    def not_before(self, time: float) -> None:
        self._values[3] = time


class FrameWriter:
    """The camera's end of the memory for frames."""

    def __init__(self, channel: Channel) -> None:
        """Start without memory."""
        self._channel = channel
        self._memory: mmap.mmap | None = None

    def write(self, gray: npt.NDArray[np.uint8]) -> None:
        """Copy a frame into the memory. If the memory is too small, replace it and tell the runner.

        Raises:
            OSError: there is no memory, or the runner has ended.
        """
        if self._memory is None or len(self._memory) < gray.nbytes:
            descriptor = os.memfd_create("fer-edge-frame")
            try:
                os.ftruncate(descriptor, gray.nbytes)
                self._memory = mmap.mmap(descriptor, gray.nbytes)
                self._channel.send(NewMemory(), descriptor)
            finally:
                os.close(descriptor)
        np.copyto(np.frombuffer(self._memory, np.uint8, gray.size).reshape(gray.shape), gray)


class FrameReader:
    """The runner's end of the memory for frames."""

    def __init__(self) -> None:
        """Start without memory."""
        self._memory: mmap.mmap | None = None

    def use(self, descriptor: int) -> None:
        """Map new memory. The old one stays as long as somebody has a view of it."""
        try:
            self._memory = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)

    def view(self, frame: Given) -> npt.NDArray[np.uint8]:
        """Return a frame as a read-only array, valid until the next frame is requested."""
        if self._memory is None:
            raise EOFError
        return np.frombuffer(self._memory, np.uint8, frame.rows * frame.columns).reshape(frame.rows, frame.columns)
