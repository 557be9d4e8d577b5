"""Cropping a face from an image to the input size of a classifier.

Training, calibration, evaluation, tagging and the runner all use `crop_face`. There must be no second implementation:
if the crops differ, a model is less accurate on the device than on the workstation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.geometry import NO_MARGIN, Box, CropSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.geometry import Face

_MIN_ROLL: Final = math.radians(5)  # smaller angles are mostly errors of the landmarks


def crop_face(
    gray: npt.NDArray[np.uint8],
    box: Box,
    height: int,
    width: int,
    crop_spec: CropSpec = NO_MARGIN,
    *,
    roll: float = 0.0,
) -> npt.NDArray[np.uint8]:
    """Crop a face and resize it to a classifier's input size.

    Where the crop extends beyond the image, the nearest edge pixel is repeated.

    Args:
        gray: uint8 image of shape (rows, columns), at least one pixel.
        box: position of the face.
        height: rows of the result.
        width: columns of the result.
        crop_spec: how the box becomes the square to crop.
        roll: clockwise rotation of the face, in radians; if it is five degrees or more, the face is rotated upright.

    Returns:
        uint8 array of shape (height, width).
    """
    if abs(roll) > _MIN_ROLL:
        return _crop_rotated(gray, box, height, width, crop_spec, roll=roll)
    rows, columns = gray.shape
    side = max(1, round(max(box.width, box.height) * crop_spec.scale))
    left = round(box.x + box.width / 2 - side / 2)
    top = round(box.y + box.height * (0.5 + crop_spec.shift) - side / 2)
    # At least one pixel of the image is inside the square, so that there is an edge pixel to repeat.
    left = min(max(left, 1 - side), columns - 1)
    top = min(max(top, 1 - side), rows - 1)
    visible = gray[max(top, 0) : top + side, max(left, 0) : left + side]
    # The visible part is resized first and padded afterwards. Padding first would turn a thin strip of a huge image
    # into a huge square.
    above, inner_height = _scale_span(-top, visible.shape[0], side, height)
    before, inner_width = _scale_span(-left, visible.shape[1], side, width)
    if visible.shape != (inner_height, inner_width):
        # INTER_AREA prevents aliasing when shrinking, but blurs when enlarging.
        interpolation = cv2.INTER_AREA if side > max(height, width) else cv2.INTER_LINEAR
        visible = np.asarray(cv2.resize(visible, (inner_width, inner_height), interpolation=interpolation), np.uint8)
    padding = (above, height - above - inner_height, before, width - before - inner_width)
    if any(padding):
        visible = np.asarray(cv2.copyMakeBorder(visible, *padding, cv2.BORDER_REPLICATE), np.uint8)
    return np.ascontiguousarray(visible)


def crop_detected_face(
    gray: npt.NDArray[np.uint8], face: Face, height: int, width: int, crop_spec: CropSpec
) -> npt.NDArray[np.uint8]:
    """Crop a face that a detector has found, by `crop_face`; it is rotated upright where the detector can tell how."""
    return crop_face(gray, face.box, height, width, crop_spec, roll=face.roll if crop_spec.align_eyes else 0.0)


def crop_whole_image(gray: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Resize an image that is already a face crop to a classifier's input size."""
    rows, columns = gray.shape
    return crop_face(gray, Box(0, 0, columns, rows), height, width)


def _crop_rotated(
    gray: npt.NDArray[np.uint8], box: Box, height: int, width: int, crop_spec: CropSpec, *, roll: float
) -> npt.NDArray[np.uint8]:
    side = max(1.0, max(box.width, box.height) * crop_spec.scale)
    centre = np.array((box.x + box.width / 2, box.y + box.height * (0.5 + crop_spec.shift)))
    # Only the part around the face is shrunk, by averaging whole pixels, because a large face would alias otherwise.
    reach = side * 0.75
    low = np.clip(np.floor(centre - reach), 0, np.array(gray.shape[::-1]) - 1).astype(int)
    high = np.clip(np.ceil(centre + reach), low + 1, gray.shape[::-1]).astype(int)
    part = gray[low[1] : high[1], low[0] : high[0]]
    factor = max(1, round(side / max(height, width)))
    if factor > 1:
        size = (max(1, part.shape[1] // factor), max(1, part.shape[0] // factor))
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    # Map the centre of each pixel of the result to a position in the part.
    cos, sin = math.cos(roll), math.sin(roll)
    rotation = np.array([[cos, -sin], [sin, cos]]) * side / (width, height)
    scale = np.array(part.shape[::-1]) / (high - low)
    start = centre - low + rotation @ (0.5 - np.array((width, height)) / 2)
    matrix = np.column_stack([rotation * scale[:, None], start * scale - 0.5])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(part, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _scale_span(hidden: int, visible: int, side: int, size: int) -> tuple[int, int]:
    """Scale a row or column of a square crop to the output size.

    Args:
        hidden: pixels of the square before the image's edge; negative if there are none.
        visible: pixels of the square inside the image.
        side: side of the square in pixels.
        size: output size in pixels.

    Returns:
        Number of output pixels before the image's edge, and inside the image.
    """
    inner = min(max(1, round(visible * size / side)), size)
    return min(round(max(hidden, 0) * size / side), size - inner), inner
