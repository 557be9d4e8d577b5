"""Comparison of a quantized detector with the one it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.detection.metrics import DetectionMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_MIN_FACE_SCORE: Final = 0.05  # score from which a cell may be a face
_MIN_SCORE: Final = 1 / 512  # half a step of a score in int8; smaller scores are no evidence


class DetectorParity(msgspec.Struct, frozen=True, kw_only=True):
    """A quantized detector beside the one it was made of, on the same images.

    Attributes:
        difference: mean difference of each output from the float one, by its channels and cells.
        signal_to_noise_db: of each operator's output, in decibels, by its name.
        original: how well the float model finds faces; None where no faces are marked in the images.
        converted: the same for the quantized one.
        change_points: average precision of the quantized model less that of the float one, in points; None where no
            faces are marked.
        original_bytes: size of the float flatbuffer.
        converted_bytes: size of the quantized flatbuffer.
        original_ms: median time of one image in floats, on this machine, one thread.
        converted_ms: the same quantized, measured in turns with the other.
    """

    difference: dict[str, float]
    signal_to_noise_db: dict[str, float]
    original: DetectionMetrics | None
    converted: DetectionMetrics | None
    change_points: float | None
    original_bytes: int
    converted_bytes: int
    original_ms: float
    converted_ms: float

    @property
    def loss_is_certain(self) -> bool:
        """True: there is no interval of a change of average precision."""
        return True

    @property
    def lost_points(self) -> float:
        """Lost points of average precision; 0 where that cannot be measured."""
        return -(self.change_points or 0.0)


def divergence(original: Sequence[npt.NDArray[np.float32]], converted: Sequence[npt.NDArray[np.float32]]) -> float:
    """Return how far the outputs of a detector's first stage are from the original ones, per image.

    Scores count by their Kullback-Leibler divergence in nats where either model may see a face, because the thousands
    of cells that clearly show none would hide the few that matter. Boxes count by their mean difference where there is
    a face, landmarks not at all.

    Args:
        original: each level's scores of shape (n, rows, columns, 1), boxes (..., 4) and landmarks (..., 10), in
            any order.
        converted: in the same order.
    """
    boxes = {one.shape[:3]: (one, other) for one, other in zip(original, converted, strict=True) if one.shape[3] == 4}
    total = 0.0
    for one, other in zip(original, converted, strict=True):
        if one.shape[3] != 1:
            continue
        total += float(score_divergence(one, other)[np.maximum(one, other) > _MIN_FACE_SCORE].sum())
        before, after = boxes[one.shape[:3]]
        total += float((one[..., 0] * np.abs(before - after).mean(axis=3)).sum())
    return total / len(original[0])


def score_divergence(original: npt.NDArray[np.float32], converted: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of each score from the original one, in nats."""
    p, q = (np.clip(score.astype(np.float64), _MIN_SCORE, 1 - _MIN_SCORE) for score in (original, converted))
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
