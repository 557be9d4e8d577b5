"""Boxes, points, landmarks and faces in an image, and how a box becomes a crop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

_EYES_APART: Final = 0.15  # of the box's width: in profile, their line says nothing


class Box(NamedTuple):
    """A rectangle in an image, in pixels; it may reach past the image's edges."""

    x: float
    y: float
    width: float
    height: float


class CropSpec(NamedTuple):
    """How a detector's box becomes the square that FER-2013's images show.

    Attributes:
        scale: side of the square over the longer side of the box.
        shift: how far the square's centre lies below the box's, over the box's height.
        align_eyes: whether the detector's landmarks are good enough to bring the eyes level by.
    """

    scale: float = 1.0
    shift: float = 0.0
    align_eyes: bool = False


NO_MARGIN = CropSpec()


class Point(NamedTuple):
    """A point in an image, in pixels; it may lie past the image's edges."""

    x: float
    y: float


class Landmarks(NamedTuple):
    """Where the parts of a face are; left and right are those of the image."""

    left_eye: Point
    right_eye: Point
    nose: Point
    mouth_left: Point
    mouth_right: Point

    def moved(self, right: float, down: float) -> Landmarks:
        """The same points so many pixels further to the right and down."""
        return Landmarks(*(Point(x + right, y + down) for x, y in self))


class Face(NamedTuple):
    """A face in an image.

    Attributes:
        box: where it is, in pixels of the image.
        score: the detector's own measure of how sure it is; comparable only within one detector.
        landmarks: where its parts are; None where the detector does not tell.
    """

    box: Box
    score: float
    landmarks: Landmarks | None = None

    @property
    def roll(self) -> float:
        """By how much the line through its eyes is turned clockwise, in radians; 0 where that is not known."""
        if self.landmarks is None:
            return 0.0
        one, other = self.landmarks.left_eye, self.landmarks.right_eye
        across, down = other.x - one.x, other.y - one.y
        return math.atan2(down, across) if across > _EYES_APART * self.box.width else 0.0


def landmarks(points: npt.NDArray[np.float32]) -> Landmarks:
    """Five points, as x and y in turn or of shape (5, 2), by their names."""
    return Landmarks(*map(Point._make, points.reshape(5, 2).tolist()))


def largest_first(faces: Iterable[Face]) -> list[Face]:
    """Faces by the area of their boxes."""
    return sorted(faces, key=lambda face: face.box.width * face.box.height, reverse=True)
