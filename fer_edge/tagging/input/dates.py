"""Find out when an image was taken: from its EXIF block, otherwise from the date of its file."""

from __future__ import annotations

import mmap
import os
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from fer_edge.utils.exif import read_date
from fer_edge.utils.limits import IMAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path


class ImageDate(NamedTuple):
    """The date of an image.

    Attributes:
        date: local time of the camera, or of this machine for the date of a file.
        from_camera: whether the camera wrote the date; otherwise it is the file's date of modification.
    """

    date: datetime
    from_camera: bool


def date_of(path: Path) -> ImageDate | None:
    """Return the date of an image file; None if the file cannot be read."""
    try:
        if not path.is_file():
            return None
        modified = path.stat().st_mtime
        taken = None
        with path.open("rb") as file:
            # An empty file cannot be mapped, and a huge one is no image.
            if 0 < os.fstat(file.fileno()).st_size <= IMAGE_BYTES:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    taken = read_date(content)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if taken:
        return ImageDate(taken, from_camera=True)
    return ImageDate(datetime.fromtimestamp(modified), from_camera=False)  # noqa: DTZ006 - local, as cameras write it
