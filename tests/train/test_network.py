"""A network as it is used answers as the one that learnt."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings

import keras
import numpy as np
import pytest

from fer_edge_train.network import HEAD, as_used, build, every_layer
from fer_edge_train.recipe import load_recipe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# A small one of ours with two heads, for images of any size, and one that normalises its input by what is stored.
RECIPES = {
    "edge": ["network.stem=8", "network.widths=[8, 8]", "network.pairs=[1, 1]"],
    "transfer": ["network.backbone=EfficientNetB0", "network.side=32", "network.weights=none"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_network_as_it_is_used_answers_as_the_one_that_learnt(name: str) -> None:
    network = load_recipe(name, RECIPES[name]).network
    trained = build(network, 7, 48 if name == "transfer" else None, auxiliary=7 if name == "edge" else 0)
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy, about TensorFlow's arrays
        for layer in every_layer(trained):
            if isinstance(layer, keras.layers.Normalization):
                layer.set_weights([rng.uniform(0.3, 0.6, 3), rng.uniform(0.04, 0.06, 3), np.array(0)])
                layer.finalize_state()
            if isinstance(layer, keras.layers.BatchNormalization):  # or nothing of the input reaches the output
                layer.set_weights([weight + rng.uniform(0, 0.1, weight.shape) for weight in layer.get_weights()])
                layer.gamma.assign(layer.gamma * 3)
        used = as_used(trained, 48)
        images = rng.uniform(-1, 1, (3, 48, 48, 1)).astype(np.float32)
        expected = keras.ops.convert_to_numpy(trained(images, training=False)[HEAD])
        found = keras.ops.convert_to_numpy(used(images, training=False))
    assert expected.std(axis=0).min() > 1e-4
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
