"""One still picture: its faces and how they look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.classification.classifier import classify_faces
from fer_edge.geometry import NO_MARGIN, Box, Face

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import FaceDetector


class Expression(msgspec.Struct, frozen=True):
    """How one face of a picture looks.

    Attributes:
        box: x, y, width and height in pixels of the picture.
        emotion: the label with the highest score.
        score: that score, 0..1.
        scores: the score of every label.
    """

    box: Box
    emotion: str
    score: float
    scores: dict[str, float]


def expressions(gray: npt.NDArray[np.uint8], detector: FaceDetector | None, classifier: Classifier) -> list[Expression]:
    """Find the faces in a picture and score them.

    Args:
        gray: uint8 picture of shape (rows, columns).
        detector: what finds the faces; None where the picture is a face crop already.
        classifier: what scores them.

    Returns:
        One for each face, largest first.
    """
    if detector is None:
        rows, columns = gray.shape
        faces, crop_spec = [Face(Box(0, 0, columns, rows), 1.0)], NO_MARGIN
    else:
        faces, crop_spec = detector.detect(gray), detector.crop_spec
    scores = classify_faces(gray, faces, crop_spec, classifier)
    return [expression(face.box, row, classifier.card.labels) for face, row in zip(faces, scores, strict=True)]


def expression(box: Box, scores: npt.NDArray[np.float32], labels: Sequence[str]) -> Expression:
    """Name the highest of a face's scores, shape (labels,)."""
    best = int(scores.argmax())
    rounded = [round(float(score), 4) for score in scores]
    return Expression(
        Box(*(round(value, 1) for value in box)), labels[best], rounded[best], dict(zip(labels, rounded, strict=True))
    )
