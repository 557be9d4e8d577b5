from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.special import softmax

from fer_edge_train.calibration import Calibration

if TYPE_CHECKING:
    import numpy.typing as npt


def sample_classes(scores: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.int64]:
    """Draw a class for each face by its scores."""
    above = np.random.default_rng(seed).random((len(scores), 1)) > scores.cumsum(axis=1)
    return np.asarray(above.sum(axis=1), np.int64)


def test_finds_and_undoes_known_temperature_and_biases() -> None:
    right = np.random.default_rng(1).normal(0, 2, (20_000, 4))
    biases = np.array([0.6, -0.4, 0.1, -0.3])
    calibration = Calibration.fit(((right - biases) * 3).astype(np.float32), sample_classes(softmax(right, axis=1), 2))
    assert calibration.temperature == pytest.approx(3, rel=0.05)
    assert calibration.biases == pytest.approx(biases, abs=0.06)
    logits = (right - biases) * 3
    calibrated = softmax(logits / calibration.temperature + calibration.biases, axis=1).astype(np.float32)
    assert calibration.undo(calibrated) == pytest.approx(softmax(logits, axis=1), abs=1e-4)


def test_bias_of_rare_class_stays_small() -> None:
    logits = np.random.default_rng(3).normal(0, 1, (60, 3)).astype(np.float32)
    calibration = Calibration.fit(logits, np.array([0] * 30 + [1] * 30))
    assert np.abs(calibration.biases).max() < 1.2
