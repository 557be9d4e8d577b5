"""Where messages are published: the protocol, and standard output."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from typing import BinaryIO

    from fer_edge_device.messages import Message


class SinkClosed(Exception):  # noqa: N818 - not a failure
    """Raised when a sink takes no more messages: its reader has gone, or writing failed; then the text says why."""


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

    def publish(self, message: Message) -> None:
        """Publish a message.

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


class JsonLinesSink:
    """Writes each message as a line of JSON, unbuffered, so that its reader need not wait."""

    queued: Final = 0
    dropped: Final = 0

    def __init__(self, file: BinaryIO) -> None:
        """Write to an open binary file, which stays open."""
        self._file = file

    def publish(self, message: Message) -> None:
        """Write a line."""
        try:
            self._file.write(msgspec.json.encode(message) + b"\n")
            self._file.flush()
        except OSError as error:
            # Otherwise the interpreter would try to write the rest of the buffer at exit, and print a traceback.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            raise SinkClosed("" if isinstance(error, BrokenPipeError) else error.strerror) from None

    def close(self, timeout: float = 0.0) -> None:
        """Do nothing: the file belongs to the caller."""
