from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from fer_edge.classification.metrics import calibration_error, measure


def test_metrics_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 500)
    scores = rng.dirichlet(np.ones(4), 500).astype(np.float32)
    scores[np.arange(500), truth] += 0.3
    predicted = scores.argmax(axis=1)
    found = measure(scores, truth, ("a", "b", "c", "d"))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, average=None)
    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.confusion == confusion_matrix(truth, predicted).tolist()
    assert found.macro_f1 == pytest.approx(f1.mean())
    for at, one in enumerate(found.classes.values()):
        assert (one.precision, one.recall, one.f1, one.support) == pytest.approx(
            (precision[at], recall[at], f1[at], support[at])
        )


def test_absent_class_does_not_count() -> None:
    found = measure(np.array([[0.9, 0.1, 0.0]], np.float32), np.array([0]), ("a", "b", "c"))
    assert (found.macro_f1, found.classes["c"].support) == (1.0, 0)


def test_calibration_error_is_difference_of_confidence_and_accuracy() -> None:
    scores = np.tile(np.array([[0.8, 0.2]], np.float32), (100, 1))
    four_in_five = np.array([0] * 80 + [1] * 20)
    assert calibration_error(scores, four_in_five) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(scores, np.zeros(100, int)) == pytest.approx(0.2, abs=1e-6)
