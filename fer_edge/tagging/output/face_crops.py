"""Cut the faces of a table out of its images and videos."""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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


class FaceCrop(NamedTuple):
    """The face of a row.

    Attributes:
        row: the row.
        jpeg: the face as a JPEG; empty if there is a problem.
        problem: why the image cannot be read; empty if it can.
    """

    row: TableRow
    jpeg: bytes
    problem: str = ""


def crop_rows(rows: Sequence[TableRow]) -> Iterator[FaceCrop]:
    """Yield the face of each row; an archive is read once."""
    by_archive: dict[Path, list[TableRow]] = defaultdict(list)
    for row in rows:
        if archive := _archive_of(row):
            by_archive[archive].append(row)
        else:
            yield _crop_file(row)
    for archive, wanted in by_archive.items():
        yield from _crop_members(archive, wanted)


def _archive_of(row: TableRow) -> Path | None:
    """Return the archive that a row's image is in, if there is one."""
    try:
        parents = [path for path in Path(row.path).parents if path.name.lower().endswith(ARCHIVE_SUFFIXES)]
        return next((path for path in parents if path.is_file()), None)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def _crop_members(archive: Path, rows: Sequence[TableRow]) -> Iterator[FaceCrop]:
    waiting: dict[str, list[TableRow]] = defaultdict(list)
    for row in rows:
        waiting[row.path].append(row)
    for member in members(archive, IMAGE_ENDINGS, str(archive), LeftOut()):
        path = f"{archive}/{member.name}"
        if path not in waiting or member.read is None:
            continue
        for row in waiting.pop(path):
            yield _crop(row, member.read)
        if not waiting:
            return
    for left in waiting.values():
        for row in left:
            reason = "videos in archives are not unpacked" if row.time is not None else "not in the archive any more"
            yield FaceCrop(row, b"", reason)


def _crop_file(row: TableRow) -> FaceCrop:
    if is_address(row.path):
        return FaceCrop(row, b"", "at an address, from which nothing is fetched")
    if not os.path.exists(row.path):  # noqa: PTH110 - pathlib refuses what is no name
        return FaceCrop(row, b"", "not on this machine")
    return _crop(row, lambda: read_bytes(Path(row.path), IMAGE_BYTES))


def _crop(row: TableRow, read: Callable[[], bytes]) -> FaceCrop:
    """Return the face of a row.

    Args:
        row: the row.
        read: reads the content of an image; not called for a video.
    """
    try:
        gray, reduction = (_read_frame(row), 1) if row.time is not None else _decode(row, read())
    except (DataError, OSError, ValueError):
        return FaceCrop(row, b"", "damaged, or of another kind")
    box = Box(*(value / reduction for value in row.box or ()))
    rows, columns = gray.shape
    if box.x >= columns or box.y >= rows:
        return FaceCrop(row, b"", "another image by now")
    face = crop_face(gray, box, THUMBNAIL_SIDE, THUMBNAIL_SIDE, NO_MARGIN)
    return FaceCrop(row, cv2.imencode(".jpg", face)[1].tobytes())


def _read_frame(row: TableRow) -> npt.NDArray[np.uint8]:
    """Return the frame of a row of a video in grey.

    Raises:
        DataError: it cannot be read.
        OSError: likewise.
    """
    path, time = Path(row.path), row.time or 0.0
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise DataError(f"{path}: not a video")
    with closing(read_frames(path, max(time - 0.001, 0), time + 1, None)) as frames:
        frame = next(frames, None)
        if frame is None:
            raise DataError(f"{path}: has no frame at {time:g} s")
        return frame.gray()


def _decode(row: TableRow, data: bytes) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the image of a row in grey, and how many times smaller it is than the original.

    Raises:
        DataError: it cannot be decoded.
    """
    side = int(max(row.box.width, row.box.height)) if row.box else 0
    image = image_decode.decode_image(data, printable(row.path), THUMBNAIL_SIDE, min_face=side, is_face=False)
    return image.gray, image.reduction
