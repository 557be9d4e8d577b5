"""Searching a large image in tiles, so that a detector's memory does not grow with the image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.detection.postprocess import RawDetections, nms, select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    Propose = Callable[[npt.NDArray[np.uint8], tuple[int, int]], RawDetections]

_OVERLAP: Final = 256  # of two tiles, in pixels of the detector's input: as large as the faces that they search


def propose_in_tiles(gray: npt.NDArray[np.uint8], size: tuple[int, int], side: int, propose: Propose) -> RawDetections:
    """Find the faces of an image that is too large for a detector's input: small ones in tiles, the others as a whole.

    Args:
        gray: uint8 image of shape (rows, columns).
        size: rows and columns to which the image would be resized.
        side: side of the largest square that the detector may take, in pixels.
        propose: finds the faces of a part of the image that is resized to a size first.

    Returns:
        Detections in pixels of the image, one of each face.
    """
    scale = min(size[0] / gray.shape[0], size[1] / gray.shape[1])
    margin = _OVERLAP / 2 / scale
    found = []
    for top, bottom in _spans(gray.shape[0], side, scale):
        for left, right in _spans(gray.shape[1], side, scale):
            part = gray[top:bottom, left:right]
            tile = propose(np.ascontiguousarray(part), _resized(part.shape, scale))
            boxes = tile.boxes + np.array((left, top, 0, 0), np.float32)
            moved = RawDetections(boxes, tile.scores, tile.landmarks + np.array((left, top), np.float32))
            # A face belongs to the tile in whose middle it lies, and none there is cut off.
            x, y = (boxes[:, :2] + boxes[:, 2:] / 2).T
            is_own = boxes[:, 2:].max(axis=1, initial=0) <= 2 * margin
            for middle, low, high, end in ((x, left, right, gray.shape[1]), (y, top, bottom, gray.shape[0])):
                is_own &= (middle >= low + margin) | (low == 0)
                is_own &= (middle < high - margin) | (high == end)
            found.append(select(moved, is_own))
    whole_scale = scale * min(0.98 * side / math.sqrt(size[0] * size[1]), 1.0)  # less, because sizes are rounded
    found.append(propose(gray, _resized(gray.shape, whole_scale)))
    return nms(RawDetections(*map(np.concatenate, zip(*found, strict=True))))


def _spans(length: int, side: int, scale: float) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of overlapping parts of a length, in pixels of the image."""
    size, step = math.floor(side / scale), math.floor((side - _OVERLAP) / scale)
    begin = 0
    while begin + size < length:
        yield begin, begin + size
        begin += step
    yield max(length - size, 0), length


def _resized(shape: tuple[int, ...], scale: float) -> tuple[int, int]:
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)
