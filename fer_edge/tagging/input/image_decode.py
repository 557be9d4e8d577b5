"""Still images of every kind, decoded no larger than faces need, and never by more memory than an image may take."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.errors import DataError, MissingExtraError, first_line
from fer_edge.tagging.input.exif import entries
from fer_edge.utils.image_io import decode_colour, decode_gray

if TYPE_CHECKING:
    import numpy.typing as npt

LARGEST_FILE: Final = 512 << 20  # bytes
_MOST_PIXELS: Final = 1 << 30  # of a JPEG, which is decoded at a smaller scale when it is large
_PILLOW_PIXELS: Final = 1 << 28
_HEIF: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


class Still(NamedTuple):
    """A decoded image.

    Attributes:
        gray: uint8 of shape (rows, columns), upright.
        reduced: how many times smaller it is than the image itself.
        columns: of the image itself, upright.
        rows: of the image itself, upright.
        orientation: by which EXIF value it was turned upright, 1..8.
    """

    gray: npt.NDArray[np.uint8]
    reduced: int
    columns: int
    rows: int
    orientation: int = 1


class _Header(NamedTuple):
    columns: int
    rows: int
    orientation: int


def decode(data: bytes, name: str, smallest: int, *, min_face: int | None, is_face: bool) -> Still:
    """Decode an image, at a reduced scale where its kind allows and no face loses by it.

    Args:
        data: the encoded image.
        name: what to call it in an error.
        smallest: side in pixels below which a face is not to come.
        min_face: side of the smallest face to find, in pixels; a sixteenth of the longer side without.
        is_face: whether the image is a face crop.

    Raises:
        DataError: it is no image, a damaged one, or has too many pixels.
    """
    if _is_pillows(data):
        gray = _by_pillow(data, name)
        return Still(gray, 1, *gray.shape[::-1])
    header = _jpeg_header(data)
    if header is None:
        gray = decode_gray(data, name)
        return Still(gray, 1, *gray.shape[::-1])
    if header.columns * header.rows > _MOST_PIXELS:
        raise DataError(f"{name}: refused, it has {header.columns}x{header.rows} pixels")
    face = min(header.columns, header.rows) if is_face else min_face or max(header.columns, header.rows) // 16
    reduced = next(scale for scale in (8, 4, 2, 1) if scale == 1 or face // scale >= smallest)
    gray = decode_gray(data, name, reduced)
    turned = header.orientation >= 5
    columns, rows = (header.rows, header.columns) if turned else (header.columns, header.rows)
    return Still(gray, reduced, columns, rows, header.orientation)


def colour(data: bytes, name: str, still: Still) -> npt.NDArray[np.uint8]:
    """The same image in BGR, uint8 of shape (rows, columns, 3), at the scale at which it was decoded."""
    if _is_pillows(data):
        return np.asarray(cv2.cvtColor(still.gray, cv2.COLOR_GRAY2BGR), np.uint8)
    return decode_colour(data, name, still.reduced)


def _is_pillows(data: bytes) -> bool:
    """Whether it is of a kind that OpenCV does not read, or not in each of its releases: HEIC, AVIF, GIF."""
    return (data[4:8] == b"ftyp" and data[8:12] in _HEIF) or data.startswith(b"GIF8")


def _by_pillow(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    try:
        import pillow_heif  # noqa: PLC0415 - an extra
        from PIL import Image, ImageOps  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise DataError(f"{name}: {MissingExtraError('Pillow and pillow-heif', 'heif')}") from error
    pillow_heif.register_heif_opener()
    Image.MAX_IMAGE_PIXELS = None  # it would warn long before the line below refuses
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _PILLOW_PIXELS:
                raise DataError(f"{name}: refused, it has {image.width}x{image.height} pixels")
            return np.asarray(ImageOps.exif_transpose(image).convert("L"), np.uint8)
    except (OSError, ValueError, SyntaxError, EOFError, RuntimeError) as error:
        raise DataError(f"{name}: not an image, or a damaged one ({first_line(error)})") from error


def _jpeg_header(data: bytes) -> _Header | None:
    """Size and orientation of a JPEG; None of what is none, or damaged so early that decoding it will tell."""
    if not data.startswith(b"\xff\xd8"):
        return None
    orientation, at = 1, 2
    try:
        while data[at] == 0xFF:
            marker = data[at + 1]
            if marker == 0xFF:  # padding
                at += 1
                continue
            (size,) = struct.unpack_from(">H", data, at + 2)
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # a frame's header
                rows, columns = struct.unpack_from(">HH", data, at + 5)
                return _Header(columns, rows, orientation)
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                orientation = _orientation(data[at + 10 : at + 2 + size])
            at += 2 + size
    except (IndexError, struct.error):
        return None
    return None


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, 1..8."""
    found = next((entry.short for entry in entries(exif) if entry.tag == 0x0112), 1)
    return found if 1 <= found <= 8 else 1
