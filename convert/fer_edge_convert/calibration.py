"""Choose the faces that a classifier's ranges are measured on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.datasets.dataset import TRAINING, VALIDATION
from fer_edge.errors import DataError
from fer_edge.utils.words import counted
from fer_edge_convert.stage import SEED

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset

CALIBRATION_FACES: Final = 700
_CHOICE_FACES: Final = 350  # to choose among calibrations by; neither calibrated nor tested on
_MORE: Final = 3  # times as many faces for a rescue


def separate_faces(data: Dataset, usage: str | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the rows of a dataset that ranges may be measured on, and which faces to test on; none is both.

    Ranges are measured on the Training part, or else on another one. If all faces would be tested on, half of those of
    each label are taken from them.

    Args:
        data: labelled faces.
        usage: the part to test on; by default what is neither Training nor validation.

    Raises:
        DataError: there are too few faces for both.
    """
    tested = data.has_usage(usage)
    for able in (data.usages == TRAINING, data.usages != VALIDATION):
        if (free := able & ~tested).any():
            return np.flatnonzero(free), tested
    rows = np.flatnonzero(tested)
    measured, rest = split_test_rows(data.classes[rows])
    if not len(measured):
        raise DataError(
            f"{data.name}: {counted(len(rows), 'face')} of one part; give two of one label at least, one to measure"
            " ranges on and one to test on, or --calibrate"
        )
    tested = np.zeros(len(data), bool)
    tested[rows[rest]] = True
    return rows[measured], tested


def calibration_candidates(data: Dataset) -> npt.NDArray[np.int64]:
    """Return the rows of a dataset to measure ranges on, where nothing is tested.

    Raises:
        DataError: there are none.
    """
    for able in (data.usages == TRAINING, data.usages != VALIDATION):
        if able.any():
            return np.flatnonzero(able)
    raise DataError(f"{data.name}: no faces to measure ranges on; give data with a Training part, or --calibrate")


def choose_calibration_rows(data: Dataset, candidates: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Choose rows of a dataset, balanced over the labels.

    Args:
        data: labelled faces.
        candidates: the rows to choose among, one or more.

    Returns:
        Rows to choose among calibrations by, rows to calibrate on, and more rows to calibrate on for a rescue.
    """
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
        Rows to choose by or to measure ranges on, which may be none, and rows to report on, each in their order.
    """
    rng = np.random.default_rng(SEED)
    choice: list[npt.NDArray[np.int64]] = []
    for label in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == label))
        choice.append(rows[: len(rows) // 2])
    chosen = np.sort(np.concatenate(choice))
    return chosen, np.setdiff1d(np.arange(len(classes)), chosen)
