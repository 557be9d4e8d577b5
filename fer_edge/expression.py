"""How one face looks: the scores of its expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt


class Expression(msgspec.Struct, frozen=True):
    """How one face of an image looks.

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


def expression(box: Box, scores: npt.NDArray[np.float32], labels: Sequence[str]) -> Expression:
    """Name the highest of a face's scores, shape (labels,)."""
    best = int(scores.argmax())
    rounded = [round(float(score), 4) for score in scores]
    return Expression(
        Box(*(round(value, 1) for value in box)), labels[best], rounded[best], dict(zip(labels, rounded, strict=True))
    )
