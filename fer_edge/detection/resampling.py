"""Scaling images, and parts of images, to the input sizes of detection networks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

PADDING: Final = 128  # pixel value outside the image

_SUBPIXELS: Final = 32  # positions within a pixel that cv2.remap tells apart
_FARTHEST: Final = 32_000 * _SUBPIXELS  # of a position, because cv2.remap takes int16 pixels

FACES_ACROSS: Final = 16  # by default, the smallest face to find is this fraction of the image's longer side


def input_size(
    shape: tuple[int, ...], min_face: int | None, window: float, *, coarse: bool = False
) -> tuple[int, int, float]:
    """Choose the size to which an image is shrunk, so that the smallest face to find just fills a detector's window.

    Args:
        shape: rows and columns of the image.
        min_face: side of the smallest face to find, in pixels; None for a sixteenth of the image's longer side.
        window: side of the smallest face that the detector can find, in pixels of its input.
        coarse: double the side of the smallest face to find.

    Returns:
        Rows and columns of the shrunk image, and the side of the smallest face in the original image.
    """
    smallest = max((min_face or max(shape) // FACES_ACROSS) * (2 if coarse else 1), window)
    rows, columns = (max(1, round(side * window / smallest)) for side in shape)
    return rows, columns, smallest


class Shrinker:
    """Shrinks images of one size repeatedly, without allocating memory each time."""

    def __init__(self) -> None:
        """Start without buffers; they are allocated when they are first needed."""
        self._halves: list[npt.NDArray[np.uint8]] = []

    def shrink(self, gray: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
        """Resize an image with little aliasing.

        The image is halved by averaging four pixels as often as possible and then resized bilinearly. Averaging over
        areas of any other size would take longer than the network.

        Args:
            gray: uint8 image of shape (rows, columns).
            out: uint8 array that receives the result and determines its size.
        """
        rows, columns = out.shape
        for step in range(int(math.log2(max(min(gray.shape[0] / rows, gray.shape[1] / columns), 1)))):
            half = (gray.shape[0] // 2, gray.shape[1] // 2)
            if half == out.shape:
                break
            if step == len(self._halves):
                self._halves.append(np.empty(half, np.uint8))
            elif self._halves[step].shape != half:
                self._halves[step] = np.empty(half, np.uint8)
            even = gray[: 2 * half[0], : 2 * half[1]]
            cv2.resize(even, half[::-1], self._halves[step], interpolation=cv2.INTER_AREA)
            gray = self._halves[step]
        interpolation = cv2.INTER_AREA if gray.shape == (2 * rows, 2 * columns) else cv2.INTER_LINEAR
        cv2.resize(gray, (columns, rows), out, interpolation=interpolation)


def expand_to_square(box: Sequence[float], extent: float) -> tuple[float, float, float]:
    """Return the square around a box.

    Args:
        box: left, top, width and height, in pixels.
        extent: side of the square relative to the longer side of the box.

    Returns:
        Left, top and side of the square, in pixels; the side is at least one pixel.
    """
    left, top, width, height = box
    side = max(extent * max(width, height), 1.0)
    return left + (width - side) / 2, top + (height - side) / 2, side


def crop_squares(
    gray: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32], extent: float, side: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Crop the squares around boxes of an image.

    Args:
        gray: uint8 image of shape (rows, columns), at least one pixel.
        boxes: left, top, width and height of each box, in pixels of the image, float32 of shape (n, 4).
        extent: side of the square relative to the longer side of the box.
        side: rows and columns of each crop.

    Returns:
        Left, top and side of each square, float32 of shape (n, 3), and the crops, uint8 of shape (n, side, side).
    """
    squares = [expand_to_square(box, extent) for box in boxes.tolist()]
    crops = [crop_square(gray, square, side) for square in squares]
    return np.array(squares, np.float32).reshape(-1, 3), np.array(crops, np.uint8).reshape(-1, side, side)


def crop_square(gray: npt.NDArray[np.uint8], square: tuple[float, float, float], side: int) -> npt.NDArray[np.uint8]:
    """Crop a square from an image at subpixel precision, which matters for a face of twenty pixels.

    Args:
        gray: uint8 image of shape (rows, columns), at least one pixel.
        square: left, top and side, in pixels of the image; the square may extend beyond the image.
        side: rows and columns of the crop.

    Returns:
        uint8 array of shape (side, side), filled with `PADDING` outside the image.
    """
    left, top, length = square
    rows, columns = gray.shape
    scale = side / length
    # Halve by averaging four pixels first, because a large face would alias otherwise.
    halvings = int(math.log2(max(1 / scale, 1)))
    margin = 1 << halvings  # pixels around the square, so that its border is not mixed with the padding
    x, y = (min(max(math.floor(edge) - margin, 0), size - 1) for edge, size in ((left, columns), (top, rows)))
    part = gray[y : max(math.ceil(top + length) + margin, y + 1), x : max(math.ceil(left + length) + margin, x + 1)]
    for _ in range(halvings):
        if min(part.shape) < 2:
            break
        half = (part.shape[0] // 2, part.shape[1] // 2)
        part = np.asarray(
            cv2.resize(part[: 2 * half[0], : 2 * half[1]], half[::-1], interpolation=cv2.INTER_AREA), np.uint8
        )
        scale *= 2
    # Map the centres of the crop's pixels to the centres of the part's pixels.
    shift = (scale - 1) / 2
    offset = ((x - left) * side / length + shift, (y - top) * side / length + shift)
    return _sample(part, scale, offset, side)


def _sample(part: npt.NDArray[np.uint8], scale: float, offset: tuple[float, float], side: int) -> npt.NDArray[np.uint8]:
    """Sample a square bilinearly at positions that are rounded to `_SUBPIXELS`.

    ``cv2.warpAffine`` rounds the positions in OpenCV 4 and not in OpenCV 5, and its pixels differ by up to 3. With
    rounded positions ``cv2.remap`` gives the same pixels in both.

    Args:
        part: uint8 image.
        scale: pixels of the result per pixel of the image.
        offset: x and y of the image's first pixel in the result.
        side: rows and columns of the result.

    Returns:
        uint8 array of shape (side, side), filled with `PADDING` outside the image.
    """
    exact = (np.arange(side) - np.array(offset)[:, None]) * (_SUBPIXELS / scale)
    rounded = np.rint(np.minimum(np.maximum(exact, -_FARTHEST), _FARTHEST)).astype(np.int32)
    (columns, rows), (right, down) = np.divmod(rounded, _SUBPIXELS)
    pixels = np.empty((side, side, 2), np.int16)
    pixels[:, :, 0], pixels[:, :, 1] = columns, rows[:, None]
    fractions = (right + _SUBPIXELS * down[:, None]).astype(np.uint16)
    return np.asarray(
        cv2.remap(part, pixels, fractions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(PADDING,)),
        np.uint8,
    )
