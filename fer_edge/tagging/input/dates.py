"""Find out when an image was taken: from its EXIF block, otherwise from the date of its file."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fer_edge.tagging.input import exif

if TYPE_CHECKING:
    from pathlib import Path


class ImageDate(NamedTuple):
    """The date of an image.

    Attributes:
        date: Local time of the camera, or of this machine for the date of a file.
        from_camera: Whether the camera wrote the date; otherwise it is the file's date of modification.
    """

    date: datetime
    from_camera: bool


def date_of(path: Path) -> ImageDate | None:
    """Return the date of an image file; None if the file cannot be read.

    Without Pillow it is the date of the file, because EXIF blocks cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(exif.MAX_BLOCK)  # cameras write the EXIF block first
        modified = path.stat().st_mtime
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    position = start.find(exif.PREFIX)
    if position >= 0 and exif.is_available() and (taken := exif.read_date(start[position:])):
        return ImageDate(taken, from_camera=True)
    return ImageDate(datetime.fromtimestamp(modified), from_camera=False)  # noqa: DTZ006 - local, as cameras write it
