"""One still image: its faces and how they look."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge.classification.classifier import classify_faces
from fer_edge.expression import Expression, expression
from fer_edge.geometry import NO_MARGIN, Box, Face

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import FaceDetector


def expressions(gray: npt.NDArray[np.uint8], detector: FaceDetector | None, classifier: Classifier) -> list[Expression]:
    """Find the faces in an image and score them.

    Args:
        gray: uint8 image of shape (rows, columns).
        detector: what finds the faces; None where the image is a face crop already.
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
