"""Decode images of every kind: as small as the wanted faces allow, and within a bound of memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.utils import image_io
from fer_edge.utils.image_header import check_header

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MAX_REDUCTION: Final = 8


class StoredImage(NamedTuple):
    """An image to search for faces, and how it is stored.

    Attributes:
        gray: uint8 of shape (rows, columns), upright.
        reduction: how many times smaller `gray` is than the image.
        columns: width of the image as it is stored, before it is turned upright.
        rows: height of the image as it is stored.
        orientation: how it is turned as it is stored: an EXIF orientation, 1..8.
    """

    gray: npt.NDArray[np.uint8]
    reduction: int
    columns: int
    rows: int
    orientation: int = 1


def decode_image(data: bytes, name: str, min_side: int, *, min_face: int | None, is_face: bool) -> StoredImage:
    """Decode an image, at a reduced scale if its format allows it and no face gets too small.

    Args:
        data: the encoded image.
        name: name of the image in errors.
        min_side: side in pixels that the smallest face keeps after the reduction.
        min_face: side of the smallest face to find, in pixels of the image; None for a sixteenth of the longer side.
        is_face: whether the image is a face crop.

    Raises:
        DataError: the data are not an image, are damaged, or have too many pixels.
    """
    size = check_header(data, name, _MAX_REDUCTION)
    if not size.is_jpeg:
        gray, orientation = image_io.decode(data, name)
        rows, columns = gray.shape if orientation < 5 else gray.shape[::-1]
        return StoredImage(gray, 1, columns, rows, orientation)
    sides = size.columns, size.rows
    face = min(sides) if is_face else min_face or max(sides) // 16
    reduction = next(scale for scale in (_MAX_REDUCTION, 4, 2, 1) if scale == 1 or face // scale >= min_side)
    gray, orientation = image_io.decode(data, name, reduced=reduction)
    return StoredImage(gray, reduction, *sides, orientation)


def decode_colour_at(data: bytes, name: str, image: StoredImage) -> npt.NDArray[np.uint8]:
    """Decode the same image to BGR, uint8 of shape (rows, columns, 3), at the same reduction."""
    return image_io.decode(data, name, colour=True, reduced=image.reduction).pixels
