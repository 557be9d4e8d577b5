"""Test that an inference network has the same outputs as the trained one."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import warnings
from typing import TYPE_CHECKING

import keras
import numpy as np
import pytest

from fer_edge.errors import InputError
from fer_edge_train.architectures.base import HEAD
from fer_edge_train.network import iter_layers, to_inference_classifier
from fer_edge_train.recipe_files import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# A small network with two heads for images of any size, one that normalizes its input, and one that resizes it itself.
RECIPES = {
    "edge": ["network.stem=8", "network.widths=[8, 8]", "network.blocks=[1, 1]"],
    "transfer": ["network.backbone=EfficientNetB0", "network.side=32", "network.weights=none"],
    "lite": ["network.side=32", "network.weights=none"],
}


@pytest.mark.parametrize("name", RECIPES)
def test_inference_network_has_same_outputs(name: str) -> None:
    network = load_recipe("transfer" if name == "lite" else name, RECIPES[name]).network
    trained = network.build(7, None if name == "edge" else 48, auxiliary=7 if name == "edge" else 0)
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about TensorFlow's arrays
        for layer in iter_layers(trained):
            if isinstance(layer, keras.layers.Normalization):
                layer.set_weights([rng.uniform(0.3, 0.6, 3), rng.uniform(0.04, 0.06, 3), np.array(0)])
                layer.finalize_state()
            if isinstance(layer, keras.layers.BatchNormalization):  # otherwise nothing of the input reaches the output
                layer.set_weights([weight + rng.uniform(0, 0.1, weight.shape) for weight in layer.get_weights()])
                layer.gamma.assign(layer.gamma * 3)
        used = to_inference_classifier(trained, 48)
        images = rng.uniform(-1, 1, (3, 48, 48, 1)).astype(np.float32)
        expected = keras.ops.convert_to_numpy(trained(images, training=False)[HEAD])
        outputs = keras.ops.convert_to_numpy(used(images, training=False))
    assert expected.std(axis=0).min() > 1e-4
    assert outputs == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_transfer_names_unusable_weights_in_plain_words(tmp_path: Path) -> None:
    file = tmp_path / "backbone.weights.h5"
    file.write_bytes(b"damaged")
    network = load_recipe("transfer", ["network.backbone=MobileNetV2", "network.side=32"]).network
    with pytest.raises(InputError) as raised:
        network.features(keras.Input((32, 32, 1)), file)
    message = str(raised.value)
    assert message.startswith(f"{file}: not the weights of MobileNetV2 without its top (`fer-edge --debug train ...`")
    assert "signature" not in message
