"""The faces of a scene, and the array in which the loss gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

# Columns of the array: left, top, right and bottom; five points; the weight; the kind of the row.
BOX: Final = slice(0, 4)
LANDMARKS: Final = slice(4, 14)
WEIGHT: Final = 14
KIND: Final = 15
COLUMNS: Final = 16
# Kinds of rows.
EMPTY: Final = 0.0
FACE: Final = 1.0
IGNORED: Final = 2.0
FACE_WITHOUT_LANDMARKS: Final = 3.0

MIN_ROWS: Final = 8
NOT_A_FACE: Final = -1.0  # score of a box that is known to show no face
MIN_TEACHER_WEIGHT: Final = 0.2  # minimum weight with which a teacher sees a face
_CLEAR_SCORE: Final = 0.93  # the score that the labelling detector gives a clear face


class Annotations(NamedTuple):
    """The faces of an image or scene.

    Attributes:
        boxes: left, top, width and height of each face, in pixels, float32 of shape (n, 4).
        landmarks: five points of each face, in pixels, float32 of shape (n, 5, 2); NaN if they are unknown.
        scores: confidence in each face, 0..1, float32 of shape (n,); `NOT_A_FACE` if the box shows none.
        ignored: regions that count neither as face nor as background, as boxes, float32 of shape (m, 4).
    """

    boxes: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.float32]


def concatenate(parts: Sequence[Annotations]) -> Annotations:
    """Join the annotations of several parts of a scene."""
    return Annotations(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def separate(annotations: Annotations) -> tuple[Annotations, npt.NDArray[np.float32]]:
    """Return annotations without the boxes that are known to show no face, and these boxes."""
    faces = annotations.scores >= 0
    return Annotations(
        annotations.boxes[faces], annotations.landmarks[faces], annotations.scores[faces], annotations.ignored
    ), annotations.boxes[~faces]


def pack(scenes: Sequence[Annotations], min_rows: int = MIN_ROWS) -> npt.NDArray[np.float32]:
    """Make the array for the loss.

    Args:
        scenes: annotations of each scene.
        min_rows: minimum number of rows for a scene. If some scene needs more, all get two, four, ... times as many:
            compiled backends compile again for each shape.

    Returns:
        float32 of shape (scenes, rows, 16); rows that a scene does not need are zero.
    """
    needed = max((len(scene.boxes) + len(scene.ignored) for scene in scenes), default=0)
    rows = min_rows
    while rows < needed:
        rows *= 2
    out = np.zeros((len(scenes), rows, COLUMNS), np.float32)
    for own, scene in zip(out, scenes, strict=True):
        faces, ignored = own[: len(scene.boxes)], own[len(scene.boxes) :][: len(scene.ignored)]
        faces[:, BOX], ignored[:, BOX] = _to_corners(scene.boxes), _to_corners(scene.ignored)
        faces[:, WEIGHT] = score_weights(scene.scores)
        points = scene.landmarks.reshape(-1, 10)
        known = np.asarray(np.isfinite(points).all(axis=1))
        faces[:, LANDMARKS] = np.where(known[:, None], points, 0)
        faces[:, KIND], ignored[:, KIND] = np.where(known, FACE, FACE_WITHOUT_LANDMARKS), IGNORED
    return out


def score_weights(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Turn scores of the labelling detector into weights, 0..1."""
    return np.asarray(np.minimum(scores / np.float32(_CLEAR_SCORE), 1), np.float32)


def row_boxes(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return left, top, width and height of the faces or regions in rows of the array."""
    corners = rows[:, BOX]
    return np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1)


def _to_corners(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
