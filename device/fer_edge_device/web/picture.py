"""The picture that leaves the device: as much of the room as `web.picture` allows, encoded as JPEG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

Picture = Literal["off", "silhouette", "pixelated", "full"]

_CELLS: Final = 24  # of a coarse picture, across its longer side: a face that was not found has few of them
_FACE_CELLS: Final = 6  # across a face, at most
_MARGIN: Final = 0.3  # of a face's box, on each side, that is replaced as well
_SILHOUETTE: Final = 40  # grey of a silhouette
_QUALITY: Final = 70  # of the JPEG


def encode_picture(
    gray: npt.NDArray[np.uint8], boxes: Iterable[tuple[float, float, float, float]], picture: Picture
) -> bytes | None:
    """Return a JPEG of a frame, without what must not be shown.

    A face that the detector has missed is not replaced as a face. So ``pixelated`` and ``silhouette`` make the whole
    picture coarse: a face of a quarter of its width has six cells across, and a smaller one fewer. A larger face gets
    larger cells. The cells stay in place, so that many pictures of a face that moves show no more than one.

    Args:
        gray: uint8 of shape (rows, columns).
        boxes: x, y, width and height of each face, as fractions of the image's width and height.
        picture: what may be shown.

    Returns:
        The JPEG; None if nothing may be shown.
    """
    if picture == "off":
        return None
    if picture == "full":
        return _encode(gray)
    rows, columns = gray.shape
    shown = _pixelate(gray, 1)
    for x, y, width, height in boxes:
        left, right = _span(x, width, columns)
        top, bottom = _span(y, height, rows)
        if picture == "silhouette":
            centre, axes = ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2)
            cv2.ellipse(shown, centre, axes, 0, 0, 360, (_SILHOUETTE,), cv2.FILLED)
        else:
            cells = max(width * columns, height * rows) / max(rows, columns) * _CELLS  # across the face
            if (size := math.ceil(cells / _FACE_CELLS)) > 1:
                shown[top:bottom, left:right] = _pixelate(gray, size)[top:bottom, left:right]
    return _encode(shown)


def _span(start: float, length: float, size: int) -> tuple[int, int]:
    """Return where a part of an image begins and ends in pixels, with its margin."""
    first, last = start - _MARGIN * length, start + (1 + _MARGIN) * length
    return max(int(first * size), 0), min(int(np.ceil(last * size)), size)


def _pixelate(gray: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Replace cells by their means.

    Args:
        gray: uint8 of shape (rows, columns).
        size: side of a cell, in cells of the picture.
    """
    rows, columns = gray.shape
    side = max(rows, columns) / _CELLS * size
    small = cv2.resize(gray, (max(round(columns / side), 1), max(round(rows / side), 1)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_NEAREST), np.uint8)


def _encode(gray: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
