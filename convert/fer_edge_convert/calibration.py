"""Choose the faces that a classifier's ranges are measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.datasets.dataset import TRAINING, VALIDATION
from fer_edge.errors import DataError
from fer_edge_convert.stage import SEED

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset

CALIBRATION_FACES: Final = 700
_CHOICE_FACES: Final = 350  # to choose among calibrations by; neither calibrated nor tested on
_MORE: Final = 3  # times as many faces for a rescue


def choose_calibration_rows(data: Dataset, *, alone: bool) -> tuple[npt.NDArray[np.int64], ...]:
    """Choose rows of a dataset, balanced over the labels.

    Args:
        data: labelled faces.
        alone: whether the data is for calibration only.

    Returns:
        Rows to choose among calibrations by, rows to calibrate on, and more rows to calibrate on for a rescue.

    Raises:
        DataError: there are none.
    """
    candidates = np.flatnonzero(data.usages == TRAINING)
    if alone:
        candidates = np.arange(len(data))
    elif not len(candidates):
        candidates = np.flatnonzero(data.usages != VALIDATION)
    if not len(candidates):
        raise DataError(f"{data.name}: no faces to measure ranges on; give data with a Training part, or --calibrate")
    rng = np.random.default_rng(SEED)
    present = np.unique(data.classes[candidates])
    each = max((CALIBRATION_FACES + _CHOICE_FACES) // len(present), 2)
    parts: list[list[npt.NDArray[np.int64]]] = [[], [], []]
    for label in present:
        shuffled = rng.permutation(candidates[data.classes[candidates] == label])
        # A third is to choose by; a single face serves for both.
        first = len(shuffled[:each]) * _CHOICE_FACES // (CALIBRATION_FACES + _CHOICE_FACES)
        parts[0].append(shuffled[:first] if first else shuffled[:each])
        parts[1].append(shuffled[first:each])
        parts[2].append(shuffled[first : _MORE * each])
    # Shuffled, because a moving average forgets what comes first.
    return tuple(rng.permutation(np.concatenate(part)) for part in parts)


def split_test_rows(classes: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split faces to test on into halves with the same labels, always in the same way.

    Args:
        classes: class of each face, shape (n,).

    Returns:
        Rows to choose by, which may be none, and rows to report on, each in their order.
    """
    rng = np.random.default_rng(SEED)
    choice: list[npt.NDArray[np.int64]] = []
    for label in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == label))
        choice.append(rows[: len(rows) // 2])
    chosen = np.sort(np.concatenate(choice))
    return chosen, np.setdiff1d(np.arange(len(classes)), chosen)
