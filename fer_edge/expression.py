"""The expression of one face: its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class Expression(msgspec.Struct, frozen=True):
    """The expression of one face of an image.

    Attributes:
        box: x, y, width and height in pixels of the image.
        emotion: the label with the highest score.
        score: that score, 0..1.
        scores: the score of every label.
    """

    box: Box
    emotion: str
    score: float
    scores: dict[str, float]

    def __repr__(self) -> str:
        """Show the emotion, its score and where the face is."""
        x, y, width, height = self.box
        return f"<Expression {self.emotion} {self.score:.0%} at {x:.0f},{y:.0f} {width:.0f}x{height:.0f}>"


def expression(box: Box, scores: npt.NDArray[np.float32], labels: Sequence[str]) -> Expression:
    """Build the expression of a face from its scores, shape (labels,)."""
    best = int(scores.argmax())
    rounded = [round(float(score), 4) for score in scores]
    return Expression(
        Box(*(round(value, 1) for value in box)), labels[best], rounded[best], dict(zip(labels, rounded, strict=True))
    )
