"""One unit of tagging work: an image, or a part of a video."""

from __future__ import annotations

import hashlib
import math
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from fer_edge.errors import DataError, first_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable


class Source(msgspec.Struct, frozen=True):
    """An image, or a part of a video.

    Attributes:
        path: Name of the source in tables and messages, free of passwords.
        uri: Path or address that the source is read from.
        kind: ``file`` for an image, ``member`` for an image in an archive, ``video`` for a part of a video.
        fingerprint: Text that changes when the file does; empty if that cannot be known.
        data: The encoded image, if it comes from an archive.
        member_position: Position of the image or video among the members of its archive.
        begin: Start of the part of a video, in seconds.
        end: End of the part, in seconds; the part does not include it.
        error: Why the source cannot be processed; empty if it can.
    """

    path: str
    uri: str
    kind: Literal["file", "video", "member"] = "file"
    fingerprint: str = ""
    data: bytes = b""
    member_position: int | None = None
    begin: float = 0.0
    end: float = math.inf
    error: str = ""

    @property
    def key(self) -> bytes:
        """A hash that identifies the source; it reveals no password of an address."""
        return hashlib.sha256(os.fsencode(f"{self.uri}\0{self.path}\0{self.begin}\0{self.member_position}")).digest()


class PendingSource(NamedTuple):
    """A source whose data may not have been read yet.

    Attributes:
        source: The source, without data.
        read: Reads its data; call it before the next source is listed. None if there is nothing to read.
    """

    source: Source
    read: Callable[[], bytes] | None = None

    def load(self) -> Source:
        """Return the source with its data, or with the error that reading them gave."""
        if self.read is None:
            return self.source
        try:
            return msgspec.structs.replace(self.source, data=self.read())
        except DataError as error:
            return msgspec.structs.replace(self.source, error=str(error))
        except Exception as error:  # noqa: BLE001 - what one member does ends no run
            message = f"{printable(self.source.path)}: cannot be read ({type(error).__name__}: {first_line(error)})"
            return msgspec.structs.replace(self.source, error=message)
