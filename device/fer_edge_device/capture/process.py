"""The camera's process as its parent sees it: starting, watching and ending it, whatever a driver does.

It is an interpreter of its own rather than a fork, because this process has threads; and not one of `multiprocessing`,
which would import the user's script again and start a process of its own to look after shared memory
(benchmarks/camera_process.py compares them).
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import SourceError
from fer_edge_device.capture.channel import Channel, FrameReader, LogLine, NewMemory, Request, SharedState

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.capture.channel import FromCamera, Given, Task

_START_TIMEOUT: Final = 30.0  # seconds for the interpreter and its imports, which a slow SD card can delay
_END_TIMEOUT: Final = 0.7  # seconds in which it may release the camera before it is killed
_KILL_TIMEOUT: Final = 3.0  # seconds for which the kernel's end of a killed process is waited for
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# It reads the folders of modules from standard input, for arguments can be seen by every user. Without a line there,
# whoever started it has been killed.
_PROGRAM: Final = (
    "import os,sys;"
    "path=sys.stdin.buffer.readline() or os._exit(0);"
    "sys.path[:]=os.fsdecode(path[:-1]).split('\\0');"
    "from fer_edge_device.capture.child import main;"
    "main()"
)


class CameraProcess:
    """A process that reads a camera."""

    def __init__(self, task: Task) -> None:
        """Start the process.

        Raises:
            SourceError: it cannot be started.
        """
        self._state = SharedState()
        self._frames = FrameReader()
        self._ended = False
        self._state.deadline = self._start_deadline = time.monotonic() + _START_TIMEOUT
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel = Channel(ours)
        try:
            self._process = _start(task, theirs, self._state)
        except OSError as error:
            self._channel.close()
            raise SourceError(f"the camera's process cannot be started ({error.strerror or error})") from None
        finally:
            theirs.close()
            os.close(self._state.descriptor)

    @property
    def number(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def newest_number(self) -> int:
        """Number of the newest frame that has come; -1 before the first."""
        return self._state.newest_number

    @property
    def newest_time(self) -> float:
        """When the newest frame came, on the monotonic clock; 0 before the first."""
        return self._state.newest_time

    @property
    def hangs(self) -> bool:
        """Whether a call of a driver takes longer than it may."""
        return time.monotonic() > self._state.deadline

    @property
    def is_starting(self) -> bool:
        """Whether it has not called a driver yet."""
        return self._state.deadline == self._start_deadline

    @property
    def ended(self) -> bool:
        """Whether it will send no more messages."""
        return self._ended

    def messages(self) -> Iterator[FromCamera]:
        """Yield its messages since the last call; its log lines go to our log."""
        while not self._ended:
            try:
                found = self._channel.receive()
                if found is None:
                    return
                message, descriptor = found
                if isinstance(message, NewMemory) and descriptor is not None:
                    self._frames.use(descriptor)
            except (EOFError, OSError, ValueError):
                self._ended = True
                return
            if isinstance(message, LogLine):
                logging.getLogger(message.logger).log(message.level, "%s", message.text)
            else:
                yield message

    def wait(self, seconds: float) -> None:
        """Wait for a message."""
        if self._ended:
            time.sleep(seconds)
        else:
            select.select([self._channel], [], [], seconds)

    def request(self, *, missed: bool) -> None:
        """Ask for a frame. The view of the last one is no longer valid.

        Args:
            missed: as in `Request`.
        """
        with suppress(OSError):  # it has ended, as `messages` will find
            self._channel.send(Request(missed))

    def set_not_before(self, time: float) -> None:
        """Say when the next frame is wanted, on the monotonic clock."""
        self._state.not_before = time

    def view(self, frame: Given) -> npt.NDArray[np.uint8]:
        """Return a frame as an array that is valid until the next `request`."""
        return self._frames.view(frame)

    def end(self, timeout: float = _END_TIMEOUT) -> None:
        """Let it release the camera and end; kill it if that takes too long.

        Args:
            timeout: seconds that it has.
        """
        self._channel.close()
        self._ended = True
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill it, and wait a moment for its end; `is_gone` says whether it has ended."""
        self._process.kill()
        self._channel.close()
        self._ended = True
        if self._process.stdin:
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_KILL_TIMEOUT)

    @property
    def is_gone(self) -> bool:
        """Whether the process does not exist any more, so that it can have nothing open."""
        return self._process.poll() is not None

    def exit_reason(self) -> str:
        """Return how it ended; it must have been killed or have ended."""
        status = self._process.returncode
        if status is None:
            return "it does not end"
        return signal.Signals(-status).name if status < 0 else f"status {status}"


def _start(task: Task, end: socket.socket, state: SharedState) -> subprocess.Popen[bytes]:
    path = [folder for folder in sys.path if "\n" not in folder]
    # Of our variables, some hold passwords, and it needs none of them but this.
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FER_EDGE_") or name == "FER_EDGE_NATIVE_LOG"
    }
    if "FER_EDGE_NATIVE_LOG" not in environment:
        # Without these, libcamera reports every opening in several lines, which colours make unreadable in a journal.
        environment = {"LIBCAMERA_LOG_LEVELS": "*:WARN", "LIBCAMERA_LOG_NO_COLOR": "1", **environment}
    # Numbers above those of the standard streams, which may be closed here.
    descriptors = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 3) for each in (end.fileno(), state.descriptor)]
    # Blocked until it ignores them, so that no Ctrl-C ends it while it starts.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", "-c", _PROGRAM, *map(str, descriptors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=None if sys.stderr else subprocess.DEVNULL,
            pass_fds=descriptors,
            env=environment,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for descriptor in descriptors:
            os.close(descriptor)
    if process.stdin:  # stays open: its end would end the process
        with suppress(OSError):  # it has ended already
            process.stdin.write(os.fsencode("\0".join(path)) + b"\n" + msgspec.json.encode(task) + b"\n")
            process.stdin.flush()
    return process
