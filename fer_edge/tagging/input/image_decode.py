"""Decode images of every kind: as small as the wanted faces allow, and within a bound of memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import DataError
from fer_edge.utils import image_io

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_FILE_BYTES: Final = 512 << 20
_MAX_JPEG_PIXELS: Final = 1 << 30  # a large JPEG is decoded at a smaller scale


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        gray: uint8 of shape (rows, columns), upright.
        reduction: How many times smaller `gray` is than the image.
        columns: Width of the image as it is stored, before it is turned upright.
        rows: Height of the image as it is stored.
        orientation: How it is turned as it is stored: an EXIF orientation, 1..8.
    """

    gray: npt.NDArray[np.uint8]
    reduction: int
    columns: int
    rows: int
    orientation: int = 1


class _JpegSize(NamedTuple):
    columns: int
    rows: int


def decode_image(data: bytes, name: str, min_side: int, *, min_face: int | None, is_face: bool) -> DecodedImage:
    """Decode an image, at a reduced scale if its format allows it and no face gets too small.

    Args:
        data: The encoded image.
        name: Name of the image in errors.
        min_side: Side in pixels that the smallest face keeps after the reduction.
        min_face: Side of the smallest face to find, in pixels of the image; None for a sixteenth of the longer side.
        is_face: Whether the image is a face crop.

    Raises:
        DataError: The data are not an image, are damaged, or have too many pixels.
    """
    size = _read_jpeg_size(data)
    if size is None:
        gray, orientation = image_io.decode(data, name)
        rows, columns = gray.shape if orientation < 5 else gray.shape[::-1]
        return DecodedImage(gray, 1, columns, rows, orientation)
    if size.columns * size.rows > _MAX_JPEG_PIXELS:
        raise DataError(f"{name}: refused, it has {size.columns}x{size.rows} pixels")
    face = min(size) if is_face else min_face or max(size) // 16
    reduction = next(scale for scale in (8, 4, 2, 1) if scale == 1 or face // scale >= min_side)
    gray, orientation = image_io.decode(data, name, reduced=reduction)
    return DecodedImage(gray, reduction, *size, orientation)


def decode_colour_at(data: bytes, name: str, image: DecodedImage) -> npt.NDArray[np.uint8]:
    """Decode the same image to BGR, uint8 of shape (rows, columns, 3), at the same reduction."""
    return image_io.decode(data, name, colour=True, reduced=image.reduction).pixels


def _read_jpeg_size(data: bytes) -> _JpegSize | None:
    """Return the size of a JPEG; None for another format, or if the header is damaged."""
    if not data.startswith(b"\xff\xd8"):
        return None
    position = 2
    try:
        while data[position] == 0xFF:
            marker = data[position + 1]
            if marker == 0xFF:  # padding
                position += 1
                continue
            (size,) = struct.unpack_from(">H", data, position + 2)
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # start of frame
                rows, columns = struct.unpack_from(">HH", data, position + 5)
                return _JpegSize(columns, rows)
            position += 2 + size
    except (IndexError, struct.error):
        return None
    return None
