"""EXIF blocks (CIPA DC-008): what their directories hold."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry(NamedTuple):
    """An entry of a directory.

    Attributes:
        tag: what it is about.
        short: its value, where that has 16 bits.
        long: its value, where that has 32 bits, or where in the block it is.
    """

    tag: int
    short: int
    long: int


def entries(block: bytes, start: int | None = None) -> Iterator[Entry]:
    """The entries of a directory, one by one.

    Args:
        block: what follows ``Exif`` and two NULs in an image.
        start: where in it the directory begins; that of the first without.

    Raises:
        struct.error: the block ends before the entry.
    """
    order = "<" if block.startswith(b"II") else ">"
    if start is None:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(f"{order}H", block, place)
        (short,) = struct.unpack_from(f"{order}H", block, place + 8)
        (long,) = struct.unpack_from(f"{order}I", block, place + 8)
        yield Entry(tag, short, long)
