from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import msgspec
import numpy as np
import pytest

from fer_edge_train.checkpoints import load_checkpoint
from fer_edge_train.optimizer import cosine, make_optimizer
from fer_edge_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_checkpoint_keeps_decay_exclusions(kind: str, tmp_path: Path) -> None:
    options = msgspec.structs.replace(load_recipe("edge").optimizer, kind=kind, weight_decay=0.5)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.compile(make_optimizer(options, cosine(0.1, 10, 0)), "mse")
    model.optimizer.build(model.trainable_variables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        model.save(tmp_path / "checkpoint.keras")
    restored = load_checkpoint(tmp_path / "checkpoint.keras")
    for network in (model, restored):
        before = dict(zip(("kernel", "bias", "gamma", "beta"), network.get_weights(), strict=False))
        # Without gradients, what changes is what decays.
        network.optimizer.apply([keras.ops.zeros_like(variable) for variable in network.trainable_variables])
        after = dict(zip(before, network.get_weights(), strict=False))
        assert np.abs(after["gamma"] - before["gamma"]).max() == 0
        assert after["kernel"] == pytest.approx(before["kernel"] * 0.95, abs=1e-6)
