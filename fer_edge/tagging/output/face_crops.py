"""Cut the faces of a table out of its images and videos."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from fer_edge.classification.crop import crop_face
from fer_edge.errors import DataError, printable
from fer_edge.geometry import NO_MARGIN, Box
from fer_edge.tagging.input import image_decode
from fer_edge.tagging.input.video import read_frames
from fer_edge.tagging.records import THUMBNAIL_SIDE
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.file_kinds import VIDEO_SUFFIXES
from fer_edge.utils.limits import IMAGE_BYTES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge.tagging.output.table_reader import TableRow


def crop_row(row: TableRow) -> bytes | None:
    """Return a JPEG of the face in a row; None if its image cannot be read, or is another one by now."""
    try:
        gray, reduction = _read_image(row)
    except (DataError, OSError, ValueError):
        return None
    box = Box(*(value / reduction for value in row.box or ()))
    rows, columns = gray.shape
    if box.x >= columns or box.y >= rows:
        return None
    return cv2.imencode(".jpg", crop_face(gray, box, THUMBNAIL_SIDE, THUMBNAIL_SIDE, NO_MARGIN))[1].tobytes()


def _read_image(row: TableRow) -> tuple[npt.NDArray[np.uint8], int]:
    """Return the image or frame of a row in grey, and how many times smaller it is than the original.

    Raises:
        DataError: It cannot be read.
    """
    path = Path(row.path)
    if row.time is None:
        side = int(max(row.box.width, row.box.height)) if row.box else 0
        image = image_decode.decode_image(
            read_bytes(path, IMAGE_BYTES), printable(row.path), THUMBNAIL_SIDE, min_face=side, is_face=False
        )
        return image.gray, image.reduction
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise DataError(f"{path}: not a video")
    with closing(read_frames(path, max(row.time - 0.001, 0), row.time + 1, None)) as frames:
        frame = next(frames, None)
        if frame is None:
            raise DataError(f"{path}: has no frame at {row.time:g} s")
        return frame.gray(), 1
