"""Reading and finding still images."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

IMAGE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".jpe", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


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


def decode_gray(data: bytes, name: str, reduced: int = 1) -> npt.NDArray[np.uint8]:
    """Decode an encoded image to grey, upright by its EXIF orientation.

    Args:
        data: the encoded image.
        name: what to call it in an error.
        reduced: 1, 2, 4 or 8: how many times smaller to make it; of a JPEG less is decoded then.

    Returns:
        uint8 array of shape (rows, columns).

    Raises:
        DataError: the data is not an image that OpenCV reads.
    """
    return _decode(data, name, _GRAY[reduced])


def decode_colour(data: bytes, name: str, reduced: int = 1) -> npt.NDArray[np.uint8]:
    """Decode an encoded image to BGR, uint8 of shape (rows, columns, 3): see `decode_gray`."""
    return _decode(data, name, _COLOUR[reduced])


def read_gray(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as grey: see `decode_gray`."""
    return decode_gray(read_bytes(path), str(path))


def read_colour(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image file as BGR, uint8 of shape (rows, columns, 3), upright; raises DataError."""
    return decode_colour(read_bytes(path), str(path))


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The bytes of a file, with a DataError where they cannot be read or are more than ``most``."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise DataError(f"{path}: a folder; `fer-edge tag` takes folders")
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device may never end
            raise DataError(f"{path}: not a regular file")
        if most is not None and found.st_size > most:
            raise DataError(f"{path}: refused, it has more than {most / 1e6:.0f} MB")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        bomb = "CV_IO_MAX" in str(error)  # see the command line's OPENCV_IO_MAX_IMAGE_PIXELS
        raise DataError(
            f"{name}: {'refused, too many pixels' if bomb else f'cannot be decoded ({error.err})'}"
        ) from error
    if image is None:
        raise DataError(f"{name}: not an image, or a damaged one")
    return image.astype(np.uint8, copy=False)
