"""The expression of one face."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.geometry import Box
from fer_edge.quality import UNCLEAR, FaceQuality

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class Expression(msgspec.Struct, frozen=True):
    """The expression of one face of an image.

    Attributes:
        box: x, y, width and height in pixels of the image.
        emotion: label with the highest score.
        score: score of that label, 0..1.
        scores: score of every label, 0..1.
        reliable: whether the face is large, sharp and frontal enough to tell its expression.
        quality: how well the face can be seen; None if it was not measured.
    """

    box: Box
    emotion: str
    score: float
    scores: dict[str, float]
    reliable: bool = True
    quality: FaceQuality | None = None

    @property
    def shown_emotion(self) -> str:
        """The emotion, or ``unclear`` if it is not reliable."""
        return self.emotion if self.reliable else UNCLEAR

    def __repr__(self) -> str:
        """Return the emotion with its score and the box."""
        x, y, width, height = self.box
        told = f"{self.emotion} {self.score:.0%}"
        told = told if self.reliable else f"{UNCLEAR} ({told})"
        return f"<Expression {told} at {x:.0f},{y:.0f} {width:.0f}x{height:.0f}>"


def expression(box: Box, scores: npt.NDArray[np.float32], labels: Sequence[str], quality: FaceQuality) -> Expression:
    """Create the expression of a face from its scores, of shape (labels,), and its quality."""
    best = int(scores.argmax())
    rounded = [round(float(score), 4) for score in scores]
    return Expression(
        Box(*(round(value, 1) for value in box)),
        labels[best],
        rounded[best],
        dict(zip(labels, rounded, strict=True)),
        quality.suffices(),
        quality,
    )
