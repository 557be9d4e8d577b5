"""Cut the faces of a table out of its images and videos."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from fer_edge.classification.crop import crop_face
from fer_edge.errors import DataError, printable
from fer_edge.geometry import NO_MARGIN, Box
from fer_edge.tagging.input import image_decode
from fer_edge.tagging.input.archives import members
from fer_edge.tagging.input.listing import IMAGE_ENDINGS
from fer_edge.tagging.input.remote import is_address
from fer_edge.tagging.input.video import read_frames
from fer_edge.tagging.records import THUMBNAIL_SIDE
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.file_kinds import ARCHIVE_SUFFIXES, VIDEO_SUFFIXES, LeftOut
from fer_edge.utils.limits import IMAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.tagging.output.table_reader import TableRow


class MissingImageError(DataError):
    """Raised when an image of a table cannot be read here."""


def crop_rows(rows: Sequence[TableRow]) -> Iterator[tuple[TableRow, bytes | MissingImageError]]:
    """Yield each row with a JPEG of its face, or with why its image cannot be read; an archive is read once."""
    by_archive: dict[Path, list[TableRow]] = defaultdict(list)
    for row in rows:
        if archive := _archive_of(row):
            by_archive[archive].append(row)
        else:
            yield row, _crop_file(row)
    for archive, wanted in by_archive.items():
        yield from _crop_members(archive, wanted)


def _archive_of(row: TableRow) -> Path | None:
    """Return the archive that a row's image is in, if there is one."""
    try:
        parents = [path for path in Path(row.path).parents if path.name.lower().endswith(ARCHIVE_SUFFIXES)]
        return next((path for path in parents if path.is_file()), None)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def _crop_members(archive: Path, rows: Sequence[TableRow]) -> Iterator[tuple[TableRow, bytes | MissingImageError]]:
    waiting: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        waiting[row.path].append(row)
    for member in members(archive, IMAGE_ENDINGS, str(archive), LeftOut()):
        path = f"{archive}/{member.name}"
        if path not in waiting or member.read is None:
            continue
        for row in waiting.pop(path):
            yield row, _crop(row, member.read)
        if not waiting:
            return
    for left in waiting.values():
        for row in left:
            reason = "videos in archives are not unpacked" if row.time is not None else "not in the archive any more"
            yield row, MissingImageError(reason)


def _crop_file(row: TableRow) -> bytes | MissingImageError:
    if is_address(row.path):
        return MissingImageError("at an address, from which nothing is fetched")
    if not os.path.exists(row.path):  # noqa: PTH110 - pathlib refuses what is no name
        return MissingImageError("not on this machine")
    return _crop(row, lambda: read_bytes(Path(row.path), IMAGE_BYTES))


def _crop(row: TableRow, read: Callable[[], bytes]) -> bytes | MissingImageError:
    """Return a JPEG of the face in a row.

    Args:
        row: the row.
        read: reads the content of an image; not called for a video.
    """
    try:
        gray, reduction = _read_frame(row) if row.time is not None else _decode(row, read())
    except (DataError, OSError, ValueError):
        return MissingImageError("damaged, or of another kind")
    box = Box(*(value / reduction for value in row.box or ()))
    rows, columns = gray.shape
    if box.x >= columns or box.y >= rows:
        return MissingImageError("another image by now")
    return cv2.imencode(".jpg", crop_face(gray, box, THUMBNAIL_SIDE, THUMBNAIL_SIDE, NO_MARGIN))[1].tobytes()


def _read_frame(row: TableRow) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the frame of a row of a video in grey, and that it has its size.

    Raises:
        DataError: It cannot be read.
        OSError: Likewise.
    """
    path, time = Path(row.path), row.time or 0.0
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise DataError(f"{path}: not a video")
    with closing(read_frames(path, max(time - 0.001, 0), time + 1, None)) as frames:
        frame = next(frames, None)
        if frame is None:
            raise DataError(f"{path}: has no frame at {time:g} s")
        return frame.gray(), 1


def _decode(row: TableRow, data: bytes) -> tuple[npt.NDArray[np.uint8], int]:
    side = int(max(row.box.width, row.box.height)) if row.box else 0
    image = image_decode.decode_image(data, printable(row.path), THUMBNAIL_SIDE, min_face=side, is_face=False)
    return image.gray, image.reduction
