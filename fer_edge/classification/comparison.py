"""Compare classifiers on the same faces, and say how sure the figures are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

_NORMAL_95: Final = 1.959964
_SEED: Final = 1


class AccuracyChange(msgspec.Struct, frozen=True):
    """The accuracy of one classifier less that of another on the same faces.

    Attributes:
        points: the difference in percentage points.
        interval: its 95 % interval, from the faces on which one is right and the other wrong.
    """

    points: float
    interval: tuple[float, float]


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval (Wilson 1927) of a share of ``count``, 1 at least."""
    z = _NORMAL_95**2 / count
    middle, half = share + z / 2, _NORMAL_95 * ((share * (1 - share) + z / 4) / count) ** 0.5
    return (middle - half) / (1 + z), (middle + half) / (1 + z)


def change_of_accuracy(before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]) -> AccuracyChange:
    """Compare two classifiers.

    Args:
        before: whether the first is right on each face, shape (n,), n at least 1.
        after: the same of the second.
    """
    change = after.astype(np.float64) - before
    mean, spread = float(change.mean()), _NORMAL_95 * float(change.std()) / len(change) ** 0.5
    return AccuracyChange(100 * mean, (100 * (mean - spread), 100 * (mean + spread)))


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
