"""The process that calls the drivers of cameras; `fer_edge_device.capture.process` starts it.

Some drivers never give Python's lock back while they hang. So this process answers no questions: before each call of a
driver, it writes into the shared memory until when the call must have ended, and whoever started it kills it after
that. It always ends with its parent, because the kernel kills it as soon as its standard input is closed.
"""

from __future__ import annotations

import fcntl
import logging
import math
import os
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, first_line
from fer_edge_device.capture.camera_list import list_cameras
from fer_edge_device.capture.channel import (
    Channel,
    Failed,
    FrameWriter,
    FromCamera,
    Given,
    LogLine,
    Result,
    SharedState,
    Task,
    Trying,
)
from fer_edge_device.capture.search import read_camera

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

logger = logging.getLogger(__name__)

_F_SETSIG: Final = 10  # fcntl(2); Python has no name for it
_RESULT_PART: Final = 32_768  # bytes
_LOG_LINE: Final = 8_192  # characters


class Link:
    """The runner, as this process sees it."""

    def __init__(self, channel: Channel, state: SharedState) -> None:
        """Use a channel to the runner, and the memory that is shared with it."""
        self._channel, self._state = channel, state
        self._writer = FrameWriter(channel)
        self._wanted = False
        self._last_missed = False

    def expect(self, seconds: float) -> None:
        """Set the time limit of the following calls of a driver; after it, this process may be killed."""
        self._state.deadline = time.monotonic() + seconds

    def send(self, message: FromCamera) -> None:
        """Send a message. If the runner does not take any now, wait for it as long as it wants.

        Raises:
            EOFError: this process is to end.
        """
        try:
            self._channel.send_if_possible(message)
        except BlockingIOError:
            self._state.deadline = math.inf
            self._send_and_wait(message)
        except OSError as error:
            raise EOFError from error

    def _send_and_wait(self, message: FromCamera) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise EOFError from error

    def wait(self, seconds: float) -> None:
        """Wait without calling a driver.

        Raises:
            EOFError: this process is to end.
        """
        end = time.monotonic() + seconds
        self.expect(seconds + 5)
        while (left := end - time.monotonic()) > 0:
            self.check()
            select.select([self._channel], [], [], left)
        self.check()

    def check(self) -> None:
        """Read the runner's messages.

        Raises:
            EOFError: this process is to end.
        """
        while request := self._channel.receive_request():
            self._wanted, self._last_missed = True, request.missed

    @property
    def wanted(self) -> bool:
        """Whether the runner waits for a frame."""
        return self._wanted

    @property
    def not_before(self) -> float:
        """When the runner wants the frame."""
        return self._state.not_before

    def take_missed(self) -> bool:
        """Return whether the runner skipped the last frame that it was given; true once for each such frame."""
        missed, self._last_missed = self._last_missed, False
        return missed

    def note_frame(self, number: int, time: float) -> None:
        """Announce a new frame."""
        self._state.set_newest(number, time)

    def give(self, gray: npt.NDArray[np.uint8], number: int, time: float, epoch: float, dropped: int) -> None:
        """Give the runner the frame for which it waits; the arguments are those of `Frame`.

        Raises:
            EOFError: this process is to end.
        """
        self._wanted = False
        try:
            self._writer.write(gray)
        except OSError as error:
            raise EOFError from error
        self.send(Given(gray.shape[0], gray.shape[1], number, time, epoch, dropped))


class _Handler(logging.Handler):
    """Sends the log to the runner. A line that it does not take at once is lost, so that no driver waits for it."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and (error := record.exc_info[1]):
            text += f" ({first_line(error)})"
        line = LogLine(record.levelno, record.name, text[:_LOG_LINE])
        with suppress(OSError):
            self._channel.send_if_possible(line)


def _log_end_of_thread(arguments: threading.ExceptHookArgs) -> None:
    """Log that a thread of a driver's library has ended by an exception, in one line rather than a traceback."""
    if arguments.exc_value:
        logger.warning("a thread of the camera's driver failed (%s)", first_line(arguments.exc_value))


def main() -> None:
    """Do the task that standard input names; the arguments are the descriptors of the socket and of the shared page."""
    # Only whoever started this process ends it: the signals of a terminal or of systemd go to both.
    ignored = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ignored)
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    _end_with_standard_input()
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    for name, level in task.log_levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().addHandler(_Handler(channel))
    threading.excepthook = _log_end_of_thread
    link = Link(channel, SharedState(int(sys.argv[2])))
    status = 0
    with suppress(EOFError):  # the runner has ended, or has no more use for this process
        try:
            _run(task, link)
        except FerEdgeError as error:
            link.send(Failed(str(error), 0.0))
            status = 1
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the runner must learn of it
            link.send(Failed(f"the camera's process failed ({first_line(error)})", 0.0))
            status = 1
    os._exit(status)  # whatever libraries do at exit may hang


def _run(task: Task, link: Link) -> None:
    if task.settings is not None:
        read_camera(task, task.settings, link)
        return

    def announce(candidate: str, seconds: float) -> None:
        link.expect(seconds)
        link.send(Trying(candidate, f"no answer from its driver within {seconds:g} s; check the cable"))

    found = msgspec.json.encode(list_cameras(task.skipped, task.timeouts.enumeration, announce))
    for start in range(0, len(found), _RESULT_PART):
        link.send(Result(found[start : start + _RESULT_PART]))


def _end_with_standard_input() -> None:
    """Let the kernel kill this process when the other end of its standard input is closed.

    That also works while a driver holds Python's lock. Unlike PR_SET_PDEATHSIG, it does not depend on the life of the
    thread that started this process.
    """
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(0, 0)
    if poll.poll(0):  # it was closed before
        os._exit(0)
