"""What a detector that learnt from more pictures makes of a scene."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.detection_metrics import overlaps
from fer_edge.faces import YuNetDetector
from fer_edge_train.faces.targets import Marked

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

LEAST: Final = 0.2  # the teacher's score from which on it sees a face
_SAME: Final = 0.5  # intersection over union of two boxes of one face
_detectors = threading.local()  # OpenCV's detectors serve one thread at a time


def taught(picture: npt.NDArray[np.uint8], marked: Marked, teacher: Path) -> Marked:
    """Marks with what the teacher says of the scene as it became: covered, dark, blurred.

    A marked face keeps its score where the teacher is less sure.  What has none, for nobody has seen it like that, has
    the teacher's, and is ignored where that does not see it; where nobody has given landmarks, box and landmarks are
    the teacher's.  What it sees besides counts as a face that is as sure as it says.

    Args:
        picture: uint8 grey, of shape (rows, columns).
        marked: what is known of it.
        teacher: YuNet's ONNX file.
    """
    boxes, landmarks, scores = (values.copy() for values in marked[:3])
    seen = _find(picture, teacher)
    shared = overlaps(seen.boxes, boxes)
    for face in np.flatnonzero(shared.max(axis=0, initial=0) >= _SAME):
        one = shared[:, face].argmax()
        scores[face] = max(scores[face], seen.scores[one])
        if np.isnan(landmarks[face]).any():
            boxes[face], landmarks[face] = seen.boxes[one], seen.landmarks[one]
    new = shared.max(axis=1, initial=0) < _SAME
    known = scores > 0
    return Marked(
        np.concatenate((boxes[known], seen.boxes[new])),
        np.concatenate((landmarks[known], seen.landmarks[new])),
        np.concatenate((scores[known], seen.scores[new])),
        np.concatenate((marked.ignored, boxes[~known])),
    )


def _find(picture: npt.NDArray[np.uint8], teacher: Path) -> Marked:
    """What the teacher sees in the scene as large as it is, cut at its edges."""
    try:
        detector: YuNetDetector = _detectors.yunet
    except AttributeError:
        detector = _detectors.yunet = YuNetDetector(teacher, threshold=LEAST)
    faces = detector.detect_all(picture)
    return Marked(
        np.array([face.box for face in faces], np.float32).reshape(-1, 4),
        np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2),
        np.array([face.score for face in faces], np.float32),
        np.empty((0, 4), np.float32),
    )
