"""The expression of one face."""

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
        emotion: label with the highest score.
        score: score of that label, 0..1.
        scores: score of every label, 0..1.
    """

    box: Box
    emotion: str
    score: float
    scores: dict[str, float]

    def __repr__(self) -> str:
        """Return the emotion with its score and the box."""
        x, y, width, height = self.box
        return f"<Expression {self.emotion} {self.score:.0%} at {x:.0f},{y:.0f} {width:.0f}x{height:.0f}>"


def expression(box: Box, scores: npt.NDArray[np.float32], labels: Sequence[str]) -> Expression:
    """Create the expression of a face from its scores, of shape (labels,)."""
    best = int(scores.argmax())
    rounded = [round(float(score), 4) for score in scores]
    return Expression(
        Box(*(round(value, 1) for value in box)), labels[best], rounded[best], dict(zip(labels, rounded, strict=True))
    )
