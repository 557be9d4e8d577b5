"""Test recomputing of the statistics of batch normalization."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest
from keras import layers

from fer_edge_train.batch_norm import recompute_batchnorm

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

pytestmark = pytest.mark.slow


def test_statistics_are_those_of_all_inputs_without_dropout() -> None:
    inner = keras.Sequential(
        [keras.Input((4, 4, 3)), layers.Dropout(0.5), layers.BatchNormalization(momentum=0.9, name="normal")]
    )
    frozen = layers.BatchNormalization(trainable=False)
    model = keras.Model((inputs := keras.Input((4, 4, 3))), frozen(inner(inputs)))
    normal, dropout = inner.get_layer("normal"), inner.layers[0]
    rng = np.random.default_rng(0)
    images = rng.normal((5, -3, 1), (1, 2, 3), (300, 4, 4, 3)).astype(np.float32)
    recompute_batchnorm(model, (images[start : start + 128] for start in range(0, 300, 128)))
    _, _, mean, variance = normal.get_weights()
    assert mean == pytest.approx(images.mean(axis=(0, 1, 2)), abs=1e-3)
    assert variance == pytest.approx(images.var(axis=(0, 1, 2)), rel=0.01)
    assert not frozen.get_weights()[2].any(), "a frozen layer keeps its statistics"
    assert (normal.momentum, dropout.rate) == (0.9, 0.5)


def test_restores_layers_after_failed_batch() -> None:
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.BatchNormalization(momentum=0.9), layers.Dropout(0.5)])
    with pytest.raises(OSError, match="no such disk"):
        recompute_batchnorm(model, _broken())
    assert (model.layers[0].momentum, model.layers[1].rate) == (0.9, 0.5)


def _broken() -> Iterator[npt.NDArray[np.float32]]:
    yield np.ones((2, 4, 4, 3), np.float32)
    message = "no such disk"
    raise OSError(message)
