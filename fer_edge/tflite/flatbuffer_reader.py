"""Reading a flatbuffer by the rules of its verifier: every offset is checked before it is followed.

The layout is described in https://flatbuffers.dev/internals/.  Fields are given by their number in the schema.
"""

from __future__ import annotations

import struct
from typing import Final

MAX_TABLES: Final = 100_000  # in a vector
MAX_DIMENSIONS: Final = 64
MAX_TEXT: Final = 1 << 16  # bytes of a string


class FlatbufferError(Exception):
    """Raised when a flatbuffer is damaged; the message says what is wrong."""


class Table:
    """A table of a flatbuffer."""

    def __init__(self, buffer: bytes, position: int) -> None:
        """Open a table.

        Args:
            buffer: the whole flatbuffer.
            position: position of the table.

        Raises:
            FlatbufferError: the table lies outside the flatbuffer.
        """
        self._buffer, self._position = buffer, position
        self._fields = position - _read(buffer, "<i", position)
        self._fields_size: int = _read(buffer, "<H", self._fields)
        table_size: int = _read(buffer, "<H", self._fields + 2)
        if (
            self._fields_size < 4
            or self._fields + self._fields_size > len(buffer)
            or position + table_size > len(buffer)
        ):
            raise FlatbufferError("a table reaches beyond the end")

    @classmethod
    def root(cls, buffer: bytes) -> Table:
        """Open the root table of a flatbuffer."""
        return cls(buffer, _read(buffer, "<I", 0))

    def integer(self, field: int, form: str, default: int = 0) -> int:
        """Return a number.

        Args:
            field: number of the field.
            form: its format, as `struct` spells it.
            default: the number if the field is missing.
        """
        at = self._find(field)
        return int(_read(self._buffer, f"<{form}", at)) if at else default

    def table(self, field: int) -> Table | None:
        """Return a table; None if the field is missing."""
        at = self._find(field)
        return Table(self._buffer, self._follow(at)) if at else None

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables; an empty list if the field is missing."""
        start, count = self._vector(field, 4)
        if count > MAX_TABLES:
            raise FlatbufferError(f"a list of {count} entries")
        return [Table(self._buffer, self._follow(start + 4 * number)) for number in range(count)]

    def integers(self, field: int) -> tuple[int, ...]:
        """Return a short vector of 32-bit integers; an empty one if the field is missing."""
        start, count = self._vector(field, 4)
        if count > MAX_TABLES:
            raise FlatbufferError(f"a list of {count} numbers")
        return struct.unpack_from(f"<{count}i", self._buffer, start)

    def length(self, field: int, item_bytes: int) -> int:
        """Return the number of items of a vector; 0 if the field is missing."""
        return self._vector(field, item_bytes)[1]

    def text(self, field: int) -> str:
        """Return a string, in which bytes that are not UTF-8 are replaced; an empty one if the field is missing."""
        start, count = self._vector(field, 1)
        if count > MAX_TEXT:
            raise FlatbufferError(f"a text of {count} bytes")
        return self._buffer[start : start + count].decode(errors="replace")

    def _find(self, field: int) -> int:
        """Return the position of a field; 0 if it is missing."""
        entry = 4 + 2 * field
        if entry + 2 > self._fields_size:
            return 0
        offset: int = _read(self._buffer, "<H", self._fields + entry)
        return self._position + offset if offset else 0

    def _follow(self, at: int) -> int:
        return at + int(_read(self._buffer, "<I", at))

    def _vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Return the start of a vector's items, and their number."""
        at = self._find(field)
        if not at:
            return 0, 0
        start = self._follow(at)
        count: int = _read(self._buffer, "<I", start)
        if start + 4 + count * item_bytes > len(self._buffer):
            raise FlatbufferError("a list reaches beyond the end")
        return start + 4, count


def _read(buffer: bytes, form: str, position: int) -> int:
    if not 0 <= position <= len(buffer) - struct.calcsize(form):
        raise FlatbufferError("an offset points outside")
    (value,) = struct.unpack_from(form, buffer, position)
    return int(value)
