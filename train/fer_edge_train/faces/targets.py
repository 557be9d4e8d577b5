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


def packed(scenes: Sequence[Marked]) -> npt.NDArray[np.float32]:
    """One array for the loss.

    Args:
        scenes: what is marked in each.

    Returns:
        Float32 of shape (scenes, rows, 16), with rows of zeros where a scene has fewer than others.
    """
    most = max((len(scene.boxes) + len(scene.ignored) for scene in scenes), default=0)
    # A multiple of eight, so that few shapes have to be compiled.
    out = np.zeros((len(scenes), max(-(-most // 8), 1) * 8, COLUMNS), np.float32)
    for rows, scene in zip(out, scenes, strict=True):
        faces, ignored = rows[: len(scene.boxes)], rows[len(scene.boxes) :][: len(scene.ignored)]
        faces[:, BOX], ignored[:, BOX] = _corners(scene.boxes), _corners(scene.ignored)
        faces[:, WEIGHT] = np.minimum(scene.scores / _SURE, 1)
        points = scene.landmarks.reshape(-1, 10)
        known = np.asarray(np.isfinite(points).all(axis=1))
        faces[:, LANDMARKS] = np.where(known[:, None], points, 0)
        faces[:, KIND], ignored[:, KIND] = np.where(known, FACE, FACE_WITHOUT_LANDMARKS), IGNORED
    return out


def _corners(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
