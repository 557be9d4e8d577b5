"""Which faces a scene has, as one array for the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# Columns of the loss's array: left, top, right and bottom; five points; the weight; what the row is.
BOX: Final = slice(0, 4)
LANDMARKS: Final = slice(4, 14)
WEIGHT: Final = 14
KIND: Final = 15
COLUMNS: Final = 16
NOTHING: Final = 0.0
FACE: Final = 1.0
IGNORED: Final = 2.0
FACE_WITHOUT_LANDMARKS: Final = 3.0

LEAST_ROWS: Final = 8
SEEN: Final = 0.2  # the weight from which on a teacher sees a face
_SURE: Final = 0.93  # the score that the labelling detector gives a clear face


class Marked(NamedTuple):
    """Where a scene's faces are.

    Attributes:
        boxes: left, top, width and height of each face, in pixels, float32 of shape (n, 4).
        landmarks: five points of each face, float32 of shape (n, 5, 2); not-a-number where nobody says.
        scores: how sure it is that each is one, 0..1, float32 of shape (n,).
        ignored: regions that count neither as face nor as background, as boxes, float32 of shape (m, 4).
    """

    boxes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.float32]


def together(parts: Sequence[Marked]) -> Marked:
    """What is marked in several parts of a scene."""
    return Marked(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def packed(scenes: Sequence[Marked], least_rows: int = LEAST_ROWS) -> npt.NDArray[np.float32]:
    """One array for the loss.

    Args:
        scenes: what is marked in each.
        least_rows: how many rows a scene has at least; where that is too few, all have two, four, ... times as many,
            for backends that compile do so anew for each shape.

    Returns:
        Float32 of shape (scenes, rows, 16), with rows of zeros where a scene has fewer than others.
    """
    most = max((len(scene.boxes) + len(scene.ignored) for scene in scenes), default=0)
    rows = least_rows
    while rows < most:
        rows *= 2
    out = np.zeros((len(scenes), rows, COLUMNS), np.float32)
    for own, scene in zip(out, scenes, strict=True):
        faces, ignored = own[: len(scene.boxes)], own[len(scene.boxes) :][: len(scene.ignored)]
        faces[:, BOX], ignored[:, BOX] = _corners(scene.boxes), _corners(scene.ignored)
        faces[:, WEIGHT] = weights(scene.scores)
        points = scene.landmarks.reshape(-1, 10)
        known = np.asarray(np.isfinite(points).all(axis=1))
        faces[:, LANDMARKS] = np.where(known[:, None], points, 0)
        faces[:, KIND], ignored[:, KIND] = np.where(known, FACE, FACE_WITHOUT_LANDMARKS), IGNORED
    return out


def weights(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """What faces weigh, 0..1, by the labelling detector's scores."""
    return np.asarray(np.minimum(scores / np.float32(_SURE), 1), np.float32)


def boxes_of(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Left, top, width and height of the faces or regions that rows of the loss's array tell of."""
    corners = rows[:, BOX]
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def _corners(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
