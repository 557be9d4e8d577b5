"""One unit of tagging work: an image, or a part of a video."""

from __future__ import annotations

import hashlib
import math
import operator
import os
import pickle
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from fer_edge.errors import DataError, first_line, printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex


class Source(msgspec.Struct, frozen=True):
    """An image, or a part of a video.

    Attributes:
        path: name of the source in tables and messages, free of passwords.
        uri: path or address that the source is read from.
        kind: ``file`` for an image, ``member`` for an image in an archive, ``video`` for a part of a video.
        fingerprint: text that changes when the file does; empty if that cannot be known.
        data: the encoded image, if it comes from an archive.
        member_position: position of the image or video among the members of its archive.
        begin: start of the part of a video, in seconds.
        end: end of the part, in seconds; the part does not include it.
        error: why the source cannot be processed; empty if it can.
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

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        """Pickle the encoded image apart, so that it can travel to another process without being copied."""
        fields = msgspec.structs.asdict(self)
        data = fields.pop("data")
        return _unpickle, (fields, pickle.PickleBuffer(data) if operator.index(protocol) >= 5 and data else data)

    @property
    def key(self) -> bytes:
        """A hash that identifies the source; it reveals no password of an address."""
        return hashlib.sha256(os.fsencode(f"{self.uri}\0{self.path}\0{self.begin}\0{self.member_position}")).digest()


def data_size(source: Source) -> int:
    """Return the size of the encoded image that a source holds, in bytes."""
    return len(source.data)


def _unpickle(fields: dict[str, Any], data: bytes | bytearray | memoryview) -> Source:
    return Source(data=data if isinstance(data, bytes) else bytes(data), **fields)


class PendingSource(NamedTuple):
    """A source whose data may not have been read yet.

    Attributes:
        source: the source, without data.
        read: reads its data; call it before the next source is listed. None if there is nothing to read.
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
