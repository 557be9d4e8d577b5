from __future__ import annotations

import numpy as np
import pytest

from fer_edge_train.recipe_files import load_recipe
from fer_edge_train.targets import class_targets, class_weights, vote_shares


def test_targets_combine_class_votes_and_smoothing() -> None:
    target = load_recipe("edge", ["target.votes=0.5", "target.label_smoothing=0.1"]).target
    votes = np.array([[0, 8, 2], [0, 0, 0]], np.float32)
    targets = class_targets(target, np.array([0, 1]), 3, votes)
    first = 0.5 * np.array([1, 0, 0]) + 0.5 * np.array([0, 0.8, 0.2])
    second = np.array([0, 1, 0])
    assert targets == pytest.approx(0.9 * np.stack([first, second]) + 0.1 / 3, abs=1e-6)
    assert class_targets(target, np.array([0, 1]), 3).sum(axis=1) == pytest.approx(1)
    assert vote_shares(votes, np.eye(3, dtype=np.float32)[:2])[1].tolist() == [0, 1, 0]


def test_class_weights_balance_classes() -> None:
    classes = np.repeat([0, 1, 3], [60, 30, 10])
    balanced = class_weights(classes, 4, 1.0)
    assert (balanced * np.bincount(classes, minlength=4))[[0, 1, 3]] == pytest.approx(100 / 3)
    assert balanced[2] == 1
    assert class_weights(classes, 4, 0.0).tolist() == [1, 1, 1, 1]
