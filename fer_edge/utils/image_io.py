"""Decoding image files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.errors import DataError
from fer_edge.utils import pillow_image
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.exif import read_orientation, turn_upright
from fer_edge.utils.file_kinds import ARCHIVE_SUFFIXES, VIDEO_SUFFIXES
from fer_edge.utils.image_header import JPEG2000, check_header, without_animation
from fer_edge.utils.isolated_decode import decode_isolated
from fer_edge.utils.limits import IMAGE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_GRAY: Final = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_COLOUR: Final = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


class DecodedImage(NamedTuple):
    """A decoded image.

    Attributes:
        pixels: the upright image, uint8 of shape (rows, columns), or (rows, columns, 3) for BGR.
        orientation: how the pixels are turned in the file, as an EXIF orientation, 1..8.
    """

    pixels: npt.NDArray[np.uint8]
    orientation: int


def decode(data: bytes, name: str, *, colour: bool = False, reduced: int = 1) -> DecodedImage:
    """Decode an image file, and turn it upright.

    Args:
        data: content of the file.
        name: name of the image, for errors.
        colour: whether to decode to BGR instead of grey.
        reduced: factor by which to shrink the image: 1, 2, 4 or 8. A JPEG is decoded faster if it is shrunk. HEIC,
            AVIF and GIF are not shrunk.

    Raises:
        DataError: the image cannot be decoded, or has too many pixels.
    """
    size = check_header(data, name, reduced, colour=colour)
    if pillow_image.needs_pillow(data):
        return DecodedImage(*pillow_image.decode(data, name, colour=colour))
    orientation = read_orientation(data)
    flags = (_COLOUR if colour else _GRAY)[reduced] | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = (decode_isolated if size.kind == JPEG2000 else _decode)(without_animation(data), name, flags)
    # OpenCV turns a TIFF in any case, and WebP not in all its releases: everything else is turned here.
    is_tiff = data[:2] in {b"II", b"MM"}
    return DecodedImage(pixels if is_tiff else turn_upright(pixels, orientation), orientation)


def decode_gray(data: bytes, name: str, reduced: int = 1) -> npt.NDArray[np.uint8]:
    """Decode an image file to grey, uint8 of shape (rows, columns); see `decode`."""
    return decode(data, name, reduced=reduced).pixels


def read_gray(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as grey; see `decode_gray`."""
    return _read(path, colour=False)


def read_colour(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as BGR, uint8 of shape (rows, columns, 3); see `decode`."""
    return _read(path, colour=True)


def check_colour(path: Path) -> Path:
    """Check that an image is not too large to be decoded to colour, and return its path.

    Raises:
        DataError: it is, or it cannot be read.
    """
    if not path.name.lower().endswith((*VIDEO_SUFFIXES, *ARCHIVE_SUFFIXES)):  # of which `read_gray` knows more
        check_header(read_bytes(path, IMAGE_BYTES), str(path), colour=True)
    return path


def _read(path: Path, *, colour: bool) -> npt.NDArray[np.uint8]:
    if path.is_dir():
        raise DataError(f"{path}: a folder; fer_edge.tag and `fer-edge tag` take folders")
    try:
        return decode(read_bytes(path, IMAGE_BYTES), str(path), colour=colour).pixels
    except DataError:
        name = path.name.lower()
        kinds = {"videos": tuple(VIDEO_SUFFIXES), "archives": ARCHIVE_SUFFIXES}
        kind = next((kind for kind, suffixes in kinds.items() if name.endswith(suffixes)), "")
        if kind and path.is_file():
            raise DataError(f"{path}: not an image; fer_edge.tag and `fer-edge tag` take {kind}") from None
        raise


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        too_large = "CV_IO_MAX" in str(error)  # set_opencv_defaults sets OPENCV_IO_MAX_IMAGE_PIXELS
        reason = "refused, too many pixels" if too_large else f"cannot be decoded ({error.err})"
        raise DataError(f"{name}: {reason}") from error
    if image is None:
        raise DataError(f"{name}: not an image, or a damaged one")
    return image.astype(np.uint8, copy=False)
