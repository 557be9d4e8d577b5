"""Reading and finding still pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

PICTURE_SUFFIXES: Final = frozenset({".bmp", ".jpeg", ".jpg", ".jpe", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def decode_gray(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Decode an encoded picture to grey, upright by its EXIF orientation.

    Args:
        data: the encoded picture.
        name: what to call it in an error.

    Returns:
        uint8 array of shape (rows, columns).

    Raises:
        DataError: the data is not a picture that OpenCV reads.
    """
    return _decode(data, name, cv2.IMREAD_GRAYSCALE)


def read_gray(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture file as grey: see `decode_gray`."""
    return decode_gray(read_bytes(path), str(path))


def read_colour(path: Path) -> npt.NDArray[np.uint8]:
    """Read a picture file as BGR, uint8 of shape (rows, columns, 3), upright; raises DataError."""
    return _decode(read_bytes(path), str(path), cv2.IMREAD_COLOR)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, with a DataError where they cannot be read."""
    try:
        if path.is_dir():
            raise DataError(f"{path}: a folder; `fer-edge tag` takes folders")
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise DataError(f"{path}: not a regular file")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def _decode(data: bytes, name: str, flags: int) -> npt.NDArray[np.uint8]:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:  # pictures of more than 2^30 pixels, for one
        raise DataError(f"{name}: cannot be decoded ({error.err})") from error
    if picture is None:
        raise DataError(f"{name}: not a picture, or a damaged one")
    return picture.astype(np.uint8, copy=False)
