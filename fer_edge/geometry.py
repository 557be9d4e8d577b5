"""Boxes, points, landmarks and faces in an image, and how a box becomes a crop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

# Smallest horizontal distance of the eyes, relative to the box's width, at which their line shows the roll. In a
# profile view the eyes are closer together.
_MIN_EYE_DISTANCE: Final = 0.15


class Box(NamedTuple):
    """A rectangle in an image, in pixels; it may extend beyond the image."""

    x: float
    y: float
    width: float
    height: float


class CropSpec(NamedTuple):
    """How to turn a detector's box into a square crop that looks like FER-2013's images.

    Attributes:
        scale: side of the square relative to the longer side of the box.
        shift: distance by which the square's centre lies below the box's centre, relative to the box's height.
        align_eyes: whether the detector's landmarks are accurate enough for rotating the eyes to a horizontal line.
    """

    scale: float = 1.0
    shift: float = 0.0
    align_eyes: bool = False


NO_MARGIN: Final = CropSpec()


class Point(NamedTuple):
    """A point in an image, in pixels; it may lie outside the image."""

    x: float
    y: float


class Landmarks(NamedTuple):
    """Five points of a face; left and right are as seen in the image."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point

    def translate(self, x: float, y: float) -> Landmarks:
        """Return the points moved right by ``x`` and down by ``y`` pixels."""
        return Landmarks(*(Point(point.x + x, point.y + y) for point in self))


class Face(NamedTuple):
    """A face in an image.

    Attributes:
        box: position, in pixels of the image.
        score: the detector's confidence, 0..1. If its card has a calibration, as that of the shipped detector, this is
            the expected precision of boxes with this score; otherwise it is comparable only between faces of the same
            detector.
        landmarks: five points of the face; None if the detector does not find them.
    """

    box: Box
    score: float
    landmarks: Landmarks | None = None

    @property
    def roll(self) -> float:
        """Clockwise rotation of the line through the eyes, in radians; 0 if it is unknown."""
        if self.landmarks is None:
            return 0.0
        left, right = self.landmarks.left_eye, self.landmarks.right_eye
        across, down = right.x - left.x, right.y - left.y
        return math.atan2(down, across) if across > _MIN_EYE_DISTANCE * self.box.width else 0.0


def make_landmarks(points: npt.NDArray[np.float32]) -> Landmarks:
    """Name five points, given as ten numbers x, y, x, y, ... or as an array of shape (5, 2)."""
    return Landmarks(*map(Point._make, points.reshape(5, 2).tolist()))


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Sort faces by the area of their boxes, largest first."""
    return sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True)


def intersection_over_union(a: Box, b: Box) -> float:
    """Return the shared area of two boxes divided by the area that they cover together, 0..1."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.width * a.height + b.width * b.height - shared)
