"""When an image was taken: what its EXIF block says, else the date of the file."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.tagging.input.exif import entries

if TYPE_CHECKING:
    from pathlib import Path

_READ: Final = 1 << 16  # bytes; cameras write the block first
_EXIF_PART, _DATE, _TAKEN = 0x8769, 0x0132, 0x9003


class Dated(NamedTuple):
    """A date of an image.

    Attributes:
        date: local time of the camera, or of this machine.
        by_camera: whether the camera says so; else the file system.
    """

    date: datetime
    by_camera: bool


def date_of(path: Path) -> Dated | None:
    """The date of an image file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            begin = file.read(_READ)
        changed = path.stat().st_mtime
    except (OSError, ValueError):  # a name with a NUL in it
        return None
    taken = _taken(begin)
    return Dated(taken, by_camera=True) if taken else Dated(datetime.fromtimestamp(changed), by_camera=False)  # noqa: DTZ006 - local, as cameras write it


def _taken(data: bytes) -> datetime | None:
    at = data.find(b"Exif\0\0")
    if at < 0:
        return None
    block = data[at + 6 :]
    try:
        first = {entry.tag: entry.long for entry in entries(block)}
        inner = {entry.tag: entry.long for entry in entries(block, first[_EXIF_PART])} if _EXIF_PART in first else {}
        place = inner.get(_TAKEN) or first[_DATE]
        return datetime.strptime(block[place : place + 19].decode("ascii"), "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - likewise
    except (struct.error, KeyError, ValueError):
        return None
