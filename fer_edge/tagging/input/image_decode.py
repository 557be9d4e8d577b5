"""Decode images of every kind: as small as the wanted faces allow, and within a bound of memory."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from fer_edge.errors import DataError, MissingExtraError, first_line
from fer_edge.tagging.input import exif
from fer_edge.utils.image_header import check_header, is_heif
from fer_edge.utils.image_io import decode_colour, decode_gray

if TYPE_CHECKING:
    import numpy.typing as npt


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        gray: uint8 of shape (rows, columns), upright.
        reduction: How many times smaller `gray` is than the image.
        columns: Width of the image as it is stored, before EXIF turns it upright.
        rows: Height of the image as it is stored.
        exif_block: The EXIF block of a JPEG; empty if there is none.
    """

    gray: npt.NDArray[np.uint8]
    reduction: int
    columns: int
    rows: int
    exif_block: bytes = b""


class _JpegHeader(NamedTuple):
    columns: int
    rows: int
    exif_block: bytes


def decode(data: bytes, name: str, min_side: int, *, min_face: int | None, is_face: bool) -> DecodedImage:
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
    if _needs_pillow(data):
        gray = _decode_by_pillow(data, name)
        return DecodedImage(gray, 1, *gray.shape[::-1])
    header = _read_jpeg_header(data)
    if header is None:
        gray = decode_gray(data, name)
        return DecodedImage(gray, 1, *gray.shape[::-1])
    face = min(header.columns, header.rows) if is_face else min_face or max(header.columns, header.rows) // 16
    reduction = next(scale for scale in (8, 4, 2, 1) if scale == 1 or face // scale >= min_side)
    return DecodedImage(decode_gray(data, name, reduction), reduction, *header)


def decode_colour_at(data: bytes, name: str, image: DecodedImage) -> npt.NDArray[np.uint8]:
    """Decode the same image to BGR, uint8 of shape (rows, columns, 3), at the same reduction.

    HEIC, AVIF and GIF stay grey.
    """
    if _needs_pillow(data):
        return np.asarray(cv2.cvtColor(image.gray, cv2.COLOR_GRAY2BGR), np.uint8)
    return decode_colour(data, name, image.reduction)


def _needs_pillow(data: bytes) -> bool:
    """Return whether OpenCV, or one of its releases, does not read this format: HEIC, AVIF or GIF."""
    return is_heif(data) or data.startswith(b"GIF8")


def _decode_by_pillow(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image, ImageOps  # noqa: PLC0415 - an extra

        if is_heif(data):
            import pillow_heif  # noqa: PLC0415 - an extra

            pillow_heif.register_heif_opener()
    except ImportError as error:
        missing = (
            MissingExtraError("Pillow and pillow-heif", "heif") if is_heif(data) else MissingExtraError("Pillow", "tag")
        )
        raise DataError(f"{name}: {missing}") from error
    size = check_header(data, name)
    Image.MAX_IMAGE_PIXELS = None  # Pillow would warn of sizes far below ours
    try:
        with Image.open(io.BytesIO(data)) as image:
            # A frame may be larger than the header says.
            is_small = image.width * image.height <= size.max_pixels
            pixels = np.asarray(ImageOps.exif_transpose(image).convert("L"), np.uint8) if is_small else None
    except Exception as error:  # a damaged image makes Pillow raise errors of many kinds
        raise DataError(f"{name}: not an image, or a damaged one ({first_line(error)})") from error
    if pixels is None:
        raise DataError(f"{name}: refused, it has a frame of too many pixels")
    return pixels


def _read_jpeg_header(data: bytes) -> _JpegHeader | None:
    """Return size and EXIF block of a JPEG; None for another format, or if the header is damaged."""
    if not data.startswith(b"\xff\xd8"):
        return None
    block, position = b"", 2
    try:
        while data[position] == 0xFF:
            marker = data[position + 1]
            if marker == 0xFF:  # padding
                position += 1
                continue
            (size,) = struct.unpack_from(">H", data, position + 2)
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # start of frame
                rows, columns = struct.unpack_from(">HH", data, position + 5)
                return _JpegHeader(columns, rows, block)
            segment = data[position + 4 : position + 2 + size]
            if marker == 0xE1 and segment.startswith(exif.PREFIX):
                block = segment
            position += 2 + size
    except (IndexError, struct.error):
        return None
    return None
