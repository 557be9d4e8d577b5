"""The picture that leaves the device: as much of the room as `web.picture` allows, encoded as JPEG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

Picture = Literal["off", "silhouette", "pixelated", "full"]

_CELLS: Final = 80  # of a pixelated picture, across its longer side: a face that was not found has few of them
_SILHOUETTE_CELLS: Final = 20
_FACE_CELLS: Final = 6  # across a face
_MARGIN: Final = 0.3  # of a face's box, on each side, that is replaced as well
_SILHOUETTE: Final = 40  # grey of a silhouette
_QUALITY: Final = 70  # of the JPEG


def encode_picture(
    gray: npt.NDArray[np.uint8], boxes: Iterable[tuple[float, float, float, float]], picture: Picture
) -> bytes | None:
    """Return a JPEG of a frame, without what must not be shown.

    A face that the detector has missed is not replaced as a face. So ``pixelated`` and ``silhouette`` make the whole
    picture coarse as well: a face of an eighth of its width has ten cells across, and a smaller one fewer.

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
    shown = _pixelate(gray, _CELLS if picture == "pixelated" else _SILHOUETTE_CELLS)
    rows, columns = gray.shape
    for x, y, width, height in boxes:
        left, right = _span(x, width, columns)
        top, bottom = _span(y, height, rows)
        if picture == "silhouette":
            centre, axes = ((left + right) // 2, (top + bottom) // 2), ((right - left) // 2, (bottom - top) // 2)
            cv2.ellipse(shown, centre, axes, 0, 0, 360, (_SILHOUETTE,), cv2.FILLED)
        elif right > left and bottom > top:
            shown[top:bottom, left:right] = _pixelate(gray[top:bottom, left:right], _FACE_CELLS)
    return _encode(shown)


def _span(start: float, length: float, size: int) -> tuple[int, int]:
    """Return where a part of an image begins and ends in pixels, with its margin."""
    first, last = start - _MARGIN * length, start + (1 + _MARGIN) * length
    return max(int(first * size), 0), min(int(np.ceil(last * size)), size)


def _pixelate(gray: npt.NDArray[np.uint8], cells: int) -> npt.NDArray[np.uint8]:
    """Replace cells by their means.

    Args:
        gray: uint8 of shape (rows, columns).
        cells: number of cells across the longer side.
    """
    rows, columns = gray.shape
    side = max(rows, columns) / cells
    size = max(round(columns / side), 1), max(round(rows / side), 1)
    small = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_NEAREST), np.uint8)


def _encode(gray: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
