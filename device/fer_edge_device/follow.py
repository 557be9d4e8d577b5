"""Following a face from one frame to the next at a hundredth of what finding it costs.

The middle of the face is looked for near where it was, by normalised cross-correlation (Lewis 1995) in a picture so
much reduced that it is 12 to 23 pixels wide.  What was found becomes what is looked for next, so that a face may turn
and change; it must still look somewhat like what the detector found, so that the search cannot creep on to something
else.  Optical flow (Kalal et al. 2010) follows scale, too, and costs several times as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.crop import Box

# Measured by benchmarks/follow.py.
_MIDDLE: Final = 0.8  # of the box's sides: what lies around it is mostly background
_LEAST: Final = 12  # pixels across
_REACH: Final = 0.5  # of the box's longer side: how far a face may move between two frames
_SAME: Final = 0.7  # least correlation with how the face looked lately
_WORN: Final = 0.9  # correlation below which the patch is taken anew; at every frame, small errors would add up
_ALIKE: Final = 0.4  # least correlation with what the detector found


@dataclass(slots=True, eq=False)
class Appearance:
    """What a face looked like and where, for `Follower.find`.

    Attributes:
        box: where it was seen last, in pixels.
        patch: uint8 picture of its middle, as it looked lately.
        detected: the same as the detector found it.
        level: how many times the picture was halved.
        x: first column of the patch in the reduced picture.
        y: first row.
        offset: from the patch's corner to the box's, in pixels of the whole frame.
        shape: rows and columns of the whole frame.
    """

    box: Box
    patch: npt.NDArray[np.uint8]
    detected: npt.NDArray[np.uint8]
    level: int
    x: int
    y: int
    offset: tuple[float, float]
    shape: tuple[int, ...]


class Follower:
    """Finds faces of one frame in the next."""

    def __init__(self) -> None:
        """Start with no frame."""
        self._levels: list[npt.NDArray[np.uint8]] = []  # buffers, kept from frame to frame
        self._ready = 0

    def take(self, gray: npt.NDArray[np.uint8]) -> None:
        """Go on to the next frame, uint8 of shape (rows, columns), which is not copied."""
        if self._levels and self._levels[0].shape != gray.shape:
            self._levels.clear()
        self._levels[:1] = [gray]
        self._ready = 1

    def remember(self, box: Box) -> Appearance | None:
        """Learn what a face looks like that the detector found in this frame.

        Returns:
            What to look for in the next frame; None for a box that is hardly in the picture.
        """
        level = 0
        while min(box.width, box.height) * _MIDDLE >= 2 * _LEAST << level:
            level += 1
        reduced = self._reduced(level)
        rows, columns = reduced.shape
        factor = 2**level
        left = round((box.x + box.width * (1 - _MIDDLE) / 2) / factor)
        top = round((box.y + box.height * (1 - _MIDDLE) / 2) / factor)
        right = min(columns, left + round(box.width * _MIDDLE / factor))
        bottom = min(rows, top + round(box.height * _MIDDLE / factor))
        left, top = max(0, left), max(0, top)
        if min(right - left, bottom - top) < _LEAST / 2:
            return None
        patch = reduced[top:bottom, left:right].copy()
        offset = box.x - left * factor, box.y - top * factor
        return Appearance(box, patch, patch, level, left, top, offset, self._levels[0].shape)

    def find(self, seen: Appearance) -> Box | None:
        """Look for a face in this frame and, when it is found, remember how it looks now.

        Returns:
            Where it is, as large as before; None when it is lost.
        """
        if seen.shape != self._levels[0].shape:
            return None
        reduced = self._reduced(seen.level)
        rows, columns = seen.patch.shape
        factor = 2**seen.level
        reach = max(2, round(max(seen.box.width, seen.box.height) * _REACH / factor))
        left, top = max(0, seen.x - reach), max(0, seen.y - reach)
        around = reduced[top : seen.y + rows + reach, left : seen.x + columns + reach]
        likeness = cv2.matchTemplate(around, seen.patch, cv2.TM_CCOEFF_NORMED)
        _, best, _, (column, row) = cv2.minMaxLoc(likeness)
        x, y = left + column, top + row
        if best < _SAME or not self._is_alike(seen, x, y):
            return None
        # Steps are as large as 2 ** level pixels: between them the peak of a parabola says where the face is.
        across = x + _peak(likeness[row, max(column - 1, 0) : column + 2].tolist())
        down = y + _peak(likeness[max(row - 1, 0) : row + 2, column].tolist())
        seen.box = seen.box._replace(x=across * factor + seen.offset[0], y=down * factor + seen.offset[1])
        seen.x, seen.y = x, y
        if best < _WORN:
            seen.patch = reduced[y : y + rows, x : x + columns].copy()
            seen.offset = seen.box.x - x * factor, seen.box.y - y * factor
        return seen.box

    def _is_alike(self, seen: Appearance, x: int, y: int) -> bool:
        """Whether what is there looks like what the detector found, give or take a pixel."""
        rows, columns = seen.detected.shape
        there = self._reduced(seen.level)[max(y - 1, 0) : y + rows + 1, max(x - 1, 0) : x + columns + 1]
        return float(cv2.matchTemplate(there, seen.detected, cv2.TM_CCOEFF_NORMED).max()) >= _ALIKE

    def _reduced(self, level: int) -> npt.NDArray[np.uint8]:
        """The frame halved so many times; each halving is done once a frame, into the same memory every time."""
        while self._ready <= level:
            above = self._levels[self._ready - 1]
            rows, columns = (side // 2 for side in above.shape)
            if self._ready == len(self._levels):
                self._levels.append(np.empty((rows, columns), np.uint8))
            # An odd row or column is left out: exact halves are what OpenCV is fast at.
            whole = above[: rows * 2, : columns * 2]
            cv2.resize(whole, (columns, rows), self._levels[self._ready], interpolation=cv2.INTER_AREA)
            self._ready += 1
        return self._levels[level]


def _peak(three: Sequence[float]) -> float:
    """How far from the middle one of three values, the highest, their parabola peaks: -0.5..0.5; 0 at an edge."""
    if len(three) < 3:
        return 0.0
    before, best, after = three
    curve = before - 2 * best + after
    return 0.5 * (before - after) / curve if curve < 0 else 0.0
