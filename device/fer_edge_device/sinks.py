"""Sinks, which publish messages: the protocol, and standard output."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from fer_edge.errors import FerEdgeError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import BinaryIO

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.messages import Message, VisibleFace

logger = logging.getLogger(__name__)

_MAX_LINES: Final = 1000  # that wait for the reader; a few hundred kilobytes
_CHUNK: Final = select.PIPE_BUF  # bytes that a pipe which is ready takes at once
_POLL_S: Final = 0.1
_STALL_S: Final = 1.0  # seconds without progress after which a closing sink no longer waits for the reader


class SinkClosed(Exception):  # noqa: N818 - not a failure
    """Raised when a sink takes no more messages: its reader has gone, or writing failed; the text then says why."""


class Sink(Protocol):
    """Publishes messages."""

    @property
    def queued(self) -> int:
        """Number of events that wait to be sent."""
        ...

    @property
    def dropped(self) -> int:
        """Number of events that were dropped."""
        ...

    def publish(self, *messages: Message) -> None:
        """Publish the messages of a frame, or another message.

        Raises:
            SinkClosed: the sink takes no more messages.
        """
        ...

    def close(self, timeout: float = ...) -> None:
        """Close the sink.

        Args:
            timeout: seconds in which to send the waiting messages.
        """
        ...


class Observer(Protocol):
    """Is told every message that a runner publishes. A page and a history are observers.

    The run does not depend on its observers.
    """

    def observe(self, *messages: Message) -> None:
        """Take over the messages of a frame, or another message; never wait, and never fail."""
        ...


class Viewer(Protocol):
    """Shows frames while somebody looks."""

    def wants_frame(self) -> bool:
        """Return whether to show the present frame."""
        ...

    def show(self, gray: npt.NDArray[np.uint8], faces: Sequence[VisibleFace]) -> None:
        """Show a frame; never wait.

        Args:
            gray: uint8 of shape (rows, columns), valid during this call.
            faces: the faces in it.
        """
        ...


class JsonLinesSink:
    """Writes each message as a line of JSON from its own thread, so that `publish` never waits for the reader.

    A reader that has stalled costs the oldest of the waiting lines. They are counted and logged. They do not count as
    dropped events, because that is what an outbox loses.

    Attributes:
        failure: why nothing can be written any more; empty if the reader has just gone.
    """

    queued: Final = 0
    dropped: Final = 0

    def __init__(
        self,
        file: BinaryIO,
        *,
        wait: Callable[[], bool] = lambda: False,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        """Write to an open binary file, which stays open.

        Args:
            file: the file; nothing else writes to it.
            wait: asked again and again while too many lines wait; returns whether `publish` is to wait for the reader
                instead of dropping the oldest line.
            before_write: called on the thread before each line; may take its time.
        """
        self.failure = ""
        self._descriptor, self._wait = file.fileno(), wait
        self._before_write = before_write
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._writing = self._closing = self._abandoned = self._failed = False
        self._dropped_lines = 0  # since the reader stalled
        self._progress_at = time.monotonic()
        # A daemon: a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def publish(self, *messages: Message) -> None:
        """Queue a line for each message; see `Sink`."""
        for message in messages:
            self._queue_line(msgspec.json.encode(message) + b"\n")

    def _queue_line(self, line: bytes) -> None:
        with self._changed:
            while len(self._lines) >= _MAX_LINES and not self._failed and self._wait():
                self._changed.wait(_POLL_S)
            if self._failed:
                raise SinkClosed(self.failure)
            if must_drop := len(self._lines) >= _MAX_LINES:
                self._lines.popleft()
                self._dropped_lines += 1
            self._lines.append(line)
            self._changed.notify_all()
            has_stalled = must_drop and self._dropped_lines == 1
        if has_stalled:
            logger.warning(
                "standard output: its reader has stalled; the oldest messages are dropped until it reads again"
            )

    def close(self, timeout: float = 5.0) -> None:
        """Write the waiting lines as long as the reader takes them, and end the thread."""
        with self._changed:
            self._closing, self._progress_at = True, time.monotonic()
            self._changed.notify_all()
        deadline = time.monotonic() + timeout
        while self._thread.is_alive() and (self._wait() or self._may_go_on(deadline)):
            self._thread.join(_POLL_S)
        self._abandoned = True
        self._thread.join(2 * _POLL_S)
        lost = self._dropped_lines + len(self._lines) + self._writing
        if lost and not self._failed:
            logger.warning("standard output: its reader has stalled; %s not written", counted(lost, "message"))

    def _may_go_on(self, deadline: float) -> bool:
        now = time.monotonic()
        return now < deadline and now - self._progress_at < _STALL_S

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        while True:
            with self._changed:
                self._writing = False
                lost = 0 if self._lines else self._dropped_lines
                self._dropped_lines -= lost
            if lost:
                logger.warning("standard output: its reader reads again; %s not written", counted(lost, "message"))
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                if not self._lines:
                    return
                line = self._lines.popleft()
                self._writing = True
                self._changed.notify_all()
            if self._before_write:
                self._before_write()
            try:
                if not self._write(line, poll):
                    return
            except OSError as error:
                self._fail(error)
                return

    def _write(self, line: bytes, poll: select.poll) -> bool:
        """Write a line as the reader takes it, and return whether that was done before the sink was closed."""
        while line:
            # A pipe that is ready takes a chunk at once, so that this thread never hangs in the system.
            if not poll.poll(_POLL_S * 1e3):
                if self._abandoned:
                    return False
                continue
            try:
                line = line[os.write(self._descriptor, line[:_CHUNK]) :]
            except BlockingIOError:  # somebody else writes there too
                time.sleep(_POLL_S)
                continue
            self._progress_at = time.monotonic()
        return True

    def _fail(self, error: OSError) -> None:
        with self._changed:
            self.failure = "" if isinstance(error, BrokenPipeError) else error.strerror or str(error)
            self._failed = True
            self._lines.clear()
            self._changed.notify_all()


def output_error(reason: str) -> FerEdgeError:
    """Return the error of a run that can publish nothing."""
    return FerEdgeError(
        f"standard output: {reason}; no messages can be published: free the disk, or redirect the output elsewhere"
    )
