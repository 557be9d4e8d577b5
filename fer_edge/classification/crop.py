"""The one function between an image with a face in it and a classifier's input.

Training's folder loader, calibration, evaluation, tagging and the runner all call it:
a second copy is the classic cause of "worse on the device than in the notebook".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.geometry import NO_MARGIN, Box, CropSpec

if TYPE_CHECKING:
    import numpy.typing as npt


_MIN_ROLL: Final = math.radians(5)  # smaller angles are mostly the landmarks' own errors


def crop_face(
    gray: npt.NDArray[np.uint8],
    box: Box,
    height: int,
    width: int,
    crop_spec: CropSpec = NO_MARGIN,
    *,
    roll: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Cut out a face and bring it to a classifier's input size.

    What lies outside the image is filled with the nearest edge pixel.

    Args:
        gray: uint8 image of shape (rows, columns).
        box: where the face is.
        height: rows of the result.
        width: columns of the result.
        crop_spec: how the box becomes the square that is cut out.
        roll: by how much the face is turned clockwise, in radians; from five degrees on it is turned back.

    Returns:
        uint8 array of shape (height, width).
    """
    if abs(roll) > _MIN_ROLL:
        return _crop_rolled(gray, box, height, width, crop_spec, roll=roll)
    rows, columns = gray.shape
    side = max(1, round(max(box.width, box.height) * crop_spec.scale))
    left = round(box.x + box.width / 2 - side / 2)
    top = round(box.y + box.height * (0.5 + crop_spec.shift) - side / 2)
    # At least one pixel of the image stays in view, so that there is an edge to repeat.
    left = min(max(left, 1 - side), columns - 1)
    top = min(max(top, 1 - side), rows - 1)
    view = gray[max(top, 0) : top + side, max(left, 0) : left + side]
    # What is in view comes to its place in the result first and is padded there: a sliver of a huge image
    # would be padded to a huge square otherwise.
    above, inside_high = _placed(-top, view.shape[0], side, height)
    before, inside_wide = _placed(-left, view.shape[1], side, width)
    if view.shape != (inside_high, inside_wide):
        # Averaging over the covered area keeps a large face from aliasing; it blurs when enlarging.
        how = cv2.INTER_AREA if side > max(height, width) else cv2.INTER_LINEAR
        view = np.asarray(cv2.resize(view, (inside_wide, inside_high), interpolation=how), np.uint8)
    over = (above, height - above - inside_high, before, width - before - inside_wide)
    if any(over):
        view = np.asarray(cv2.copyMakeBorder(view, *over, cv2.BORDER_REPLICATE), np.uint8)
    return np.ascontiguousarray(view)


def _crop_rolled(
    gray: npt.NDArray[np.uint8], box: Box, height: int, width: int, crop_spec: CropSpec, *, roll: float
) -> npt.NDArray[np.uint8]:
    side = max(1.0, max(box.width, box.height) * crop_spec.scale)
    middle = np.array((box.x + box.width / 2, box.y + box.height * (0.5 + crop_spec.shift)))
    # Only the part around the face is reduced, by means over whole pixels: a large face would alias otherwise.
    reach = side * 0.75
    low = np.clip(np.floor(middle - reach), 0, np.array(gray.shape[::-1]) - 1).astype(int)
    high = np.clip(np.ceil(middle + reach), low + 1, gray.shape[::-1]).astype(int)
    part = gray[low[1] : high[1], low[0] : high[0]]
    factor = max(1, round(side / max(height, width)))
    if factor > 1:
        part = np.asarray(
            cv2.resize(
                part,
                (max(1, part.shape[1] // factor), max(1, part.shape[0] // factor)),
                interpolation=cv2.INTER_AREA,
            ),
            np.uint8,
        )
    # From a pixel of the result to one of the part, by the middles of pixels.
    cos, sin = math.cos(roll), math.sin(roll)
    turn = np.array([[cos, -sin], [sin, cos]]) * side / (width, height)
    scale = np.array(part.shape[::-1]) / (high - low)
    start = middle - low + turn @ (0.5 - np.array((width, height)) / 2)
    matrix = np.column_stack([turn * scale[:, None], start * scale - 0.5])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(part, matrix, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _placed(missing: int, seen: int, side: int, size: int) -> tuple[int, int]:
    """Of ``side`` pixels, ``missing`` before and ``seen`` in view: how many of ``size`` each becomes."""
    inside = min(max(1, round(seen * size / side)), size)
    return min(round(max(missing, 0) * size / side), size - inside), inside


def whole_image(gray: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """An image that is already a face crop, brought to a classifier's input size."""
    rows, columns = gray.shape
    return crop_face(gray, Box(0, 0, columns, rows), height, width)
