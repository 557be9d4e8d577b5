"""Scores of a classifier on labelled faces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class ClassMetrics(msgspec.Struct, frozen=True):
    """One class: how often its name was right (precision) and how many of it were found (recall), each 0..1."""

    precision: float
    recall: float
    f1: float
    support: int


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a classifier scored.

    Attributes:
        faces: how many faces were judged.
        accuracy: share that was right, 0..1.
        macro_f1: mean of the classes' F1, 0..1.
        ece: expected calibration error over 15 bins (Guo et al. 2017, arXiv:1706.04599), 0..1.
        classes: scores of each class by label.
        confusion: rows are true, columns are predicted classes, counts in the order of the labels.
    """

    faces: int
    accuracy: float
    macro_f1: float
    ece: float
    classes: dict[str, ClassMetrics]
    confusion: list[list[int]]


def measure(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], labels: tuple[str, ...]) -> Metrics:
    """Compare a classifier's scores with the truth.

    Args:
        scores: probabilities of shape (n, classes), n at least 1.
        truth: class indices of shape (n,).
        labels: names of the classes.
    """
    predicted = scores.argmax(axis=1)
    count = len(labels)
    confusion = np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)
    hits = confusion.diagonal()
    precision = hits / np.maximum(confusion.sum(axis=0), 1)
    recall = hits / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * hits / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1)
    support = confusion.sum(axis=1)
    return Metrics(
        faces=len(truth),
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1[support > 0].mean()),
        ece=calibration_error(scores, truth),
        classes={
            label: ClassMetrics(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        confusion=confusion.tolist(),
    )


def calibration_error(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], bins: int = 15) -> float:
    """Expected calibration error: how far confidence and accuracy lie apart, 0..1, weighted by bin."""
    confidence = scores.max(axis=1)
    right = scores.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))
