"""Compare classifiers on the same faces, and say how sure the figures are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_NORMAL_95: Final = 1.959964
_SEED: Final = 1
_SIGNIFICANT: Final = 0.05

Verdict = Literal["better", "not shown", "worse"]


class AccuracyChange(msgspec.Struct, frozen=True):
    """The accuracy of one classifier less that of another on the same faces.

    Attributes:
        points: the difference in percentage points.
        interval: its 95 % interval, from the faces on which one is right and the other wrong.
        gained: number of faces on which this classifier is right and the other wrong.
        lost: number of faces on which it is the other way round.
        p_value: probability of a difference of this size or larger between equally good classifiers, 0..1, by
            McNemar's exact test (McNemar 1947).
        verdict: ``better`` or ``worse`` if that probability is below 0.05, else ``not shown``.
    """

    points: float
    interval: tuple[float, float]
    gained: int
    lost: int
    p_value: float
    verdict: Verdict


class AccuracyDifference(msgspec.Struct, frozen=True):
    """The accuracy of a classifier on some faces less that on other faces.

    Attributes:
        points: the difference in percentage points.
        interval: its 95 % interval (Newcombe 1998, method 10).
    """

    points: float
    interval: tuple[float, float]


class BootstrapIntervals(msgspec.Struct, frozen=True, kw_only=True):
    """95 % intervals of a classifier's metrics, from resamples of the faces (Efron 1979).

    Attributes:
        resamples: number of resamples.
        accuracy: interval of the accuracy, 0..1.
        log_loss: interval of the mean log loss, in nats.
        accuracy_change: interval of the accuracy less that of the first classifier on the same resamples, in
            percentage points; None for the first.
        log_loss_change: the same of the log loss, in nats.
    """

    resamples: int
    accuracy: tuple[float, float]
    log_loss: tuple[float, float]
    accuracy_change: tuple[float, float] | None = None
    log_loss_change: tuple[float, float] | None = None


def bootstrap(
    right: npt.NDArray[np.bool_], losses: npt.NDArray[np.float64], resamples: int
) -> list[BootstrapIntervals]:
    """Compute the intervals of several classifiers on the same faces; the same faces always give the same intervals.

    Args:
        right: whether each classifier is right on each face, shape (classifiers, n), n at least 1.
        losses: log loss of each classifier on each face, in nats, same shape.
        resamples: number of resamples, 1 at least.
    """
    values = np.concatenate([right.astype(np.float64), losses]).T
    count = len(values)
    random = np.random.default_rng(_SEED)
    means = np.empty((resamples, values.shape[1]))
    for row in means:
        row[:] = np.bincount(random.integers(count, size=count), minlength=count) @ values / count
    accuracy, loss = np.split(means, 2, axis=1)
    return [
        BootstrapIntervals(
            resamples=resamples,
            accuracy=_middle_95(accuracy[:, i]),
            log_loss=_middle_95(loss[:, i]),
            accuracy_change=_middle_95(100 * (accuracy[:, i] - accuracy[:, 0])) if i else None,
            log_loss_change=_middle_95(loss[:, i] - loss[:, 0]) if i else None,
        )
        for i in range(len(right))
    ]


def _middle_95(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval (Wilson 1927) of a share of ``count``, 1 at least."""
    z = _NORMAL_95**2 / count
    middle, half = share + z / 2, _NORMAL_95 * ((share * (1 - share) + z / 4) / count) ** 0.5
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def difference_of_accuracy(some: npt.NDArray[np.bool_], others: npt.NDArray[np.bool_]) -> AccuracyDifference:
    """Compare a classifier on some faces and on other faces.

    Args:
        some: whether it is right on each of these faces, shape (n,), n at least 1.
        others: the same of the other faces, shape (m,), m at least 1.
    """
    share, other = float(some.mean()), float(others.mean())
    (low, high), (other_low, other_high) = wilson_interval(share, len(some)), wilson_interval(other, len(others))
    less, more = math.hypot(share - low, other_high - other), math.hypot(high - share, other - other_low)
    difference = share - other
    return AccuracyDifference(100 * difference, (100 * (difference - less), 100 * (difference + more)))


def change_of_accuracy(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> AccuracyChange:
    """Compare two classifiers.

    Args:
        before: whether the first is right on each face, shape (n,), n at least 1.
        after: the same of the second.
    """
    change = after.astype(np.float64) - before
    mean, spread = float(change.mean()), _NORMAL_95 * float(change.std()) / len(change) ** 0.5
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    p_value = _mcnemar(gained, lost)
    verdict: Verdict = "not shown"
    if p_value < _SIGNIFICANT:
        verdict = "better" if gained > lost else "worse"
    return AccuracyChange(
        points=100 * mean,
        interval=(100 * (mean - spread), 100 * (mean + spread)),
        gained=gained,
        lost=lost,
        p_value=p_value,
        verdict=verdict,
    )


def _mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: of as many heads or fewer among fair throws of a coin."""
    throws = gained + lost
    logs = (
        math.lgamma(throws + 1) - math.lgamma(k + 1) - math.lgamma(throws - k + 1) - throws * math.log(2)
        for k in range(min(gained, lost) + 1)
    )
    return min(1.0, 2 * math.fsum(map(math.exp, logs)))


def spread_rows(classes: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Choose faces of every class in proportion, always the same ones.

    Args:
        classes: class of each face, shape (n,).
        count: how many to choose, 1 at least; all of them if there are fewer.

    Returns:
        Rows in their order, shape (count,).
    """
    if count >= len(classes):
        return np.arange(len(classes))
    by_class = np.lexsort((np.random.default_rng(_SEED).random(len(classes)), classes))
    # The middle of each of `count` equal stretches of the faces sorted by class.
    chosen = by_class[((np.arange(count) + 0.5) * len(classes) / count).astype(np.int64)]
    return np.sort(chosen)
