"""One still picture: its faces and how they look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import msgspec

from fer_edge.classification.classifier import classify_faces
from fer_edge.classification.crop import AS_IT_IS, Box
from fer_edge.detection.base import Face
from fer_edge.errors import InputError
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.image_io import read_colour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import FaceDetector

# BGR; readable on dark and light, and apart from one another for most colour-blind people (Okabe & Ito 2008).
_COLOURS = ((0, 94, 213), (66, 228, 240), (167, 121, 204), (115, 158, 0), (178, 114, 0), (0, 159, 230), (233, 180, 86))


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
        faces, framing = [Face(Box(0, 0, columns, rows), 1.0)], AS_IT_IS
    else:
        faces, framing = detector.detect(gray), detector.framing
    scores = classify_faces(gray, faces, framing, classifier)
    return [expression(face.box, row, classifier.card.labels) for face, row in zip(faces, scores, strict=True)]


def expression(box: Box, scores: npt.NDArray[np.float32], labels: Sequence[str]) -> Expression:
    """Name the highest of a face's scores, shape (labels,)."""
    best = int(scores.argmax())
    rounded = [round(float(score), 4) for score in scores]
    return Expression(
        Box(*(round(value, 1) for value in box)), labels[best], rounded[best], dict(zip(labels, rounded, strict=True))
    )


def annotate(picture: npt.NDArray[np.uint8], found: Sequence[Expression]) -> npt.NDArray[np.uint8]:
    """Draw boxes, emotions and scores on a copy of a BGR picture of shape (rows, columns, 3)."""
    out = picture.copy()
    for face in found:
        x, y, width, height = (round(value) for value in face.box)
        colour = _COLOURS[list(face.scores).index(face.emotion) % len(_COLOURS)]
        size = min(max(width / 160, 0.4), 3.0)
        line = max(1, round(size * 2))
        cv2.rectangle(out, (x, y), (x + width, y + height), colour, line)
        text = f"{face.emotion} {face.score:.0%}"
        (wide, high), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        # Above the box where there is room, else inside it.
        bottom = y if y >= high + base else y + high + base
        left = max(0, min(x, out.shape[1] - wide))
        cv2.rectangle(out, (left, bottom - high - base), (left + wide, bottom), colour, cv2.FILLED)
        dark = sum(colour) < 400
        ink = (255, 255, 255) if dark else (0, 0, 0)
        cv2.putText(out, text, (left, bottom - base // 2), cv2.FONT_HERSHEY_SIMPLEX, size, ink, line, cv2.LINE_AA)
    return out


def save_annotated(image: Path, found: Sequence[Expression], out: Path) -> None:
    """Write an annotated copy of a picture, in the format of ``out``'s ending.

    Raises:
        DataError: the picture cannot be read.
        InputError: it is the picture itself, the ending is unknown or the place cannot be written to.
    """
    if out.exists() and out.samefile(image):
        raise InputError(f"{out}: is the picture itself; save the annotated one under another name")
    try:
        ok, encoded = cv2.imencode(out.suffix, annotate(read_colour(image), found))
    except cv2.error:
        ok = False
    if not ok:
        raise InputError(f"{out}: OpenCV cannot write this kind of picture; end it in .png or .jpg")
    with replacing(out) as temporary:
        temporary.write_bytes(encoded.tobytes())
