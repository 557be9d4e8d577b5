"""Decoding the image formats that OpenCV, or one of its releases, does not read: HEIC, AVIF and GIF."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.errors import DataError, MissingExtraError, first_line
from fer_edge.utils.exif import turn_upright
from fer_edge.utils.image_header import is_heif
from fer_edge.utils.limits import GRAY_PIXELS

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image as PillowImage

_BAND_ROWS: Final = 256
_ROTATIONS: Final = {0: 1, 1: 8, 2: 3, 3: 6}  # EXIF orientation by quarters of a turn to the left


def needs_pillow(data: bytes) -> bool:
    """Return whether an image file has a format that Pillow decodes here."""
    return is_heif(data) or data.startswith(b"GIF8")


def decode(data: bytes, name: str, *, colour: bool) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode an image file.

    Args:
        data: content of the file.
        name: name of the image, for errors.
        colour: whether to return BGR instead of grey.

    Returns:
        The upright image, uint8 of shape (rows, columns) or (rows, columns, 3), and how its pixels are turned in the
        file, as an EXIF orientation.

    Raises:
        DataError: the image cannot be decoded, has too many pixels, or takes a package that is not installed.
    """
    try:
        from PIL import Image  # noqa: PLC0415 - an extra

        if is_heif(data):
            import pillow_heif  # noqa: PLC0415 - an extra

            pillow_heif.register_heif_opener()
    except ImportError as error:
        packages, extra = ("Pillow and pillow-heif", "heif") if is_heif(data) else ("Pillow", "tag")
        raise DataError(f"{name}: {MissingExtraError(packages, extra)}") from error
    Image.MAX_IMAGE_PIXELS = None  # Pillow would warn of sizes far below the limit that follows
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
            _check_size(image, name)
            orientation, is_upright = _read_orientation(data, image)
            pixels = _convert(image, colour=colour)
    except DataError:
        raise
    except Exception as error:  # a damaged image makes Pillow raise errors of many kinds
        raise DataError(f"{name}: not an image, or a damaged one ({first_line(error)})") from error
    return (pixels if is_upright else turn_upright(pixels, orientation)), orientation


def _convert(image: PillowImage, *, colour: bool) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image, in parts: as a whole, 50 million in colour would take 900 MB."""
    columns, rows = image.size
    pixels = np.empty((rows, columns, 3) if colour else (rows, columns), np.uint8)
    for top in range(0, rows, _BAND_ROWS):
        band = image.crop((0, top, columns, min(top + _BAND_ROWS, rows))).convert("RGB" if colour else "L")
        part = np.asarray(band, np.uint8)
        pixels[top : top + _BAND_ROWS] = part[..., ::-1] if colour else part
    return pixels


def _check_size(image: Any, name: str) -> None:  # noqa: ANN401 - Pillow has no types here
    """Refuse an image whose first frame is larger than its header says."""
    if image.width * image.height > GRAY_PIXELS:
        raise DataError(f"{name}: refused, it has {image.width}x{image.height} pixels")


def _read_orientation(data: bytes, image: object) -> tuple[int, bool]:
    """Return how the pixels are turned in the file, and whether the decoder has turned them upright.

    The boxes ``irot`` and ``imir`` turn HEIC (ISO/IEC 23008-12); libheif applies them, and pillow-heif then drops the
    orientation of the EXIF block, which repeats them. Files of some converters have that orientation alone. For AVIF,
    Pillow gives the boxes as an EXIF orientation and applies nothing.
    """
    info, exif = image.info, image.getexif()  # type: ignore[attr-defined] # Pillow has no types here
    stated = info.get("original_orientation")
    if stated is None:
        stated = exif.get(0x0112, 1)
    stated = stated if stated in range(1, 9) else 1
    boxes = _find_properties(data)
    if "Heif" not in type(image).__name__:
        return stated, False
    if b"imir" in boxes:
        return stated, True
    at = boxes.find(b"irot")
    return (_ROTATIONS[boxes[at + 4] & 3], True) if 0 <= at < len(boxes) - 4 else (stated, False)


def _find_properties(data: bytes) -> bytes:
    """Return the box of a HEIC file that describes its images; empty if there is none."""
    position = 0
    for _ in range(64):  # it is one of the first boxes
        size, kind = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        if kind == b"meta":
            return data[position : position + size]
        if size < 8:
            return b""
        position += size
    return b""
