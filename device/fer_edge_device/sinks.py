"""Where messages go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

if TYPE_CHECKING:
    from typing import BinaryIO

    from fer_edge_device.messages import Message


class SinkClosed(Exception):  # noqa: N818 - not a failure: nobody wants to hear any more
    """Raised when whoever read the messages has gone, or they cannot be written: then it says why."""


class Sink(Protocol):
    """Anything that messages are given to."""

    @property
    def queued(self) -> int:
        """How many events wait to be sent."""
        ...

    @property
    def dropped(self) -> int:
        """How many events were never sent."""
        ...

    def publish(self, message: Message) -> None:
        """Take a message.

        Raises:
            SinkClosed: nobody wants any more.
        """
        ...

    def close(self, timeout: float = ...) -> None:
        """Let go of what is open.

        Args:
            timeout: seconds that sending what waits may take.
        """
        ...


class JsonLinesSink:
    """One JSON line a message, at once: whoever reads it must not wait for a buffer to fill."""

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
            # What the buffer still holds would fail again, loudly, when the interpreter exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._file.fileno())
            raise SinkClosed("" if isinstance(error, BrokenPipeError) else error.strerror) from None

    def close(self, timeout: float = 0.0) -> None:
        """Do nothing: the file is not ours."""
