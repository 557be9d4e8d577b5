"""Accuracy and calibration of a classifier on labelled faces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

_MIN_SCORE: Final = 1 / 512  # half a step of an int8 output, which rounds smaller scores to 0

if TYPE_CHECKING:
    import numpy.typing as npt


class ClassMetrics(msgspec.Struct, frozen=True):
    """Metrics of one class.

    Attributes:
        precision: share of the faces predicted as this class that belong to it, 0..1.
        recall: share of the faces of this class that are predicted as it, 0..1.
        f1: harmonic mean of precision and recall, 0..1.
        support: number of faces of this class.
    """

    precision: float
    recall: float
    f1: float
    support: int


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Metrics of a classifier.

    Attributes:
        faces: number of faces.
        accuracy: share of correct predictions, 0..1.
        macro_f1: mean F1 of the classes that occur, 0..1.
        ece: expected calibration error over 15 bins (Guo et al. 2017, arXiv:1706.04599), 0..1.
        log_loss: mean of ``log_losses``, in nats.
        classes: metrics of each class by label.
        confusion: number of faces by true class (row) and predicted class (column), in the order of the labels.
    """

    faces: int
    accuracy: float
    macro_f1: float
    ece: float
    log_loss: float
    classes: dict[str, ClassMetrics]
    confusion: list[list[int]]


def measure(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], labels: tuple[str, ...]) -> Metrics:
    """Compare a classifier's scores with the true classes.

    Args:
        scores: probabilities of shape (n, classes), n at least 1.
        truth: class indices of shape (n,).
        labels: names of the classes.
    """
    predicted = scores.argmax(axis=1)
    count = len(labels)
    confusion = np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)
    correct = confusion.diagonal()
    precision = correct / np.maximum(confusion.sum(axis=0), 1)
    recall = correct / np.maximum(confusion.sum(axis=1), 1)
    f1 = 2 * correct / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1)
    support = confusion.sum(axis=1)
    return Metrics(
        faces=len(truth),
        accuracy=float((predicted == truth).mean()),
        macro_f1=float(f1[support > 0].mean()),
        ece=calibration_error(scores, truth),
        log_loss=float(log_losses(scores, truth).mean()),
        classes={
            label: ClassMetrics(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        confusion=confusion.tolist(),
    )


def log_losses(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the negative logarithm of the true class's score for each face, in nats, shape (n,).

    Scores below 1/512 count as 1/512, so that models with int8 and with float outputs can be compared.

    Args:
        scores: probabilities of shape (n, classes).
        truth: class indices of shape (n,).
    """
    return -np.log(np.maximum(scores[np.arange(len(truth)), truth].astype(np.float64), _MIN_SCORE))


def calibration_error(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], bins: int = 15) -> float:
    """Compute the expected calibration error, 0..1.

    The faces are grouped by their highest score; the error is the mean difference between that score and the accuracy
    in each bin, weighted by the number of faces.

    Args:
        scores: probabilities of shape (n, classes).
        truth: class indices of shape (n,).
        bins: number of bins of equal width.
    """
    confidence = scores.max(axis=1)
    correct = scores.argmax(axis=1) == truth
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, weights=confidence - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))
