from __future__ import annotations

import numpy as np
import pytest

from fer_edge.classification.metrics import calibration_error, measure


def test_metrics_equal_those_of_scikit_learn() -> None:
    from sklearn.metrics import (  # noqa: PLC0415 - takes seconds in each worker
        accuracy_score,
        confusion_matrix,
        precision_recall_fscore_support,
    )

    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 500)
    scores = rng.dirichlet(np.ones(4), 500).astype(np.float32)
    scores[np.arange(500), truth] += 0.3
    predicted = scores.argmax(axis=1)
    metrics = measure(scores, truth, ("a", "b", "c", "d"))
    precision, recall, f1, support = precision_recall_fscore_support(truth, predicted, average=None)
    assert metrics.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert metrics.confusion == confusion_matrix(truth, predicted).tolist()
    assert metrics.macro_f1 == pytest.approx(f1.mean())
    for number, class_metrics in enumerate(metrics.classes.values()):
        assert (
            class_metrics.precision,
            class_metrics.recall,
            class_metrics.f1,
            class_metrics.support,
        ) == pytest.approx((precision[number], recall[number], f1[number], support[number]))


def test_absent_class_does_not_count() -> None:
    metrics = measure(np.array([[0.9, 0.1, 0.0]], np.float32), np.array([0]), ("a", "b", "c"))
    assert (metrics.macro_f1, metrics.classes["c"].support) == (1.0, 0)


def test_calibration_error_is_difference_of_confidence_and_accuracy() -> None:
    scores = np.tile(np.array([[0.8, 0.2]], np.float32), (100, 1))
    four_in_five = np.array([0] * 80 + [1] * 20)
    assert calibration_error(scores, four_in_five) == pytest.approx(0.0, abs=1e-6)
    assert calibration_error(scores, np.zeros(100, int)) == pytest.approx(0.2, abs=1e-6)
