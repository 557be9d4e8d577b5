"""Test PyTorch's own kernels against Keras's operations; skipped if PyTorch is not installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"),
]

# In a separate process, because the backend is chosen when Keras is loaded.
SCRIPT = """
import contextlib, json
import keras, numpy as np, torch
from keras import layers, ops
from fer_edge_train.torch_kernels import native_kernels

def network():
    keras.utils.set_random_seed(7)
    image = keras.Input((42, 36, 1))
    x = ops.space_to_depth(image, 2)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(layers.Add()([x, layers.Activation("tanh")(x)]))
    x = layers.MaxPooling2D((2, 3), strides=1, padding="same")(layers.MaxPooling2D(2, strides=1)(x))
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Concatenate()([x, layers.Reshape((11, 9, 8))(x)])
    x = layers.Conv2D(4, 1, activity_regularizer="l2")(ops.space_to_depth(layers.ZeroPadding2D(((0, 1), (1, 2)))(x), 2))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="tanh")(x)
    x = layers.BatchNormalization(scale=False, momentum=0.5)(x)
    x = layers.Conv2D(8, (1, 3), padding="valid", groups=2, use_bias=False)(x)
    x = layers.BatchNormalization(center=False, epsilon=0.1)(x)
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Conv2D(6, 3, dilation_rate=2, padding="same")(x)
    frozen = layers.BatchNormalization(trainable=False)
    x = layers.GlobalAveragePooling2D()(frozen(x))
    x = layers.Dropout(0.3, seed=3)(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(3)(x))

def learn(context):
    model = network()
    model.compile(keras.optimizers.SGD(0.01), "mse")
    rng = np.random.default_rng(1)
    with context:
        losses = [
            float(model.train_on_batch(
                rng.random((5, 42, 36, 1), dtype=np.float32), rng.random((5, 3), dtype=np.float32)
            ))
            for _ in range(4)
        ]
        seen = model.predict_on_batch(rng.random((5, 42, 36, 1), dtype=np.float32))
    return losses, seen, model.get_weights()

(plain, seen, weights), (native, seen_natively, weights_natively) = (
    learn(context) for context in (contextlib.nullcontext(), native_kernels())
)
apart = [np.abs(a - b).max() for a, b in zip([seen, *weights], [seen_natively, *weights_natively], strict=True)]
moved = [np.abs(a - b).max() for a, b in zip(network().get_weights(), weights, strict=True)]
result = {"plain": plain, "native": native, "apart": float(max(apart)), "moved": float(max(moved))}

def normalize(context):
    keras.utils.set_random_seed(3)
    layer = layers.BatchNormalization(dtype="mixed_bfloat16", gamma_initializer="he_normal")
    layer.build((None, None, None, 24))
    rng = np.random.default_rng(2)
    x, wanted = (torch.tensor(rng.normal(3, 2, (9, 7, 8, 24))).to(torch.bfloat16) for _ in range(2))
    x.requires_grad_()
    with context:
        y = layer(x, training=True)
        y.backward(wanted)
    found = y, x.grad, layer.gamma.value.grad, layer.beta.value.grad, layer.moving_mean.value
    return [one.detach().float() for one in found]

result["brief"] = [
    float((one - other).abs().max() / other.abs().max())
    for one, other in zip(normalize(native_kernels()), normalize(contextlib.nullcontext()), strict=True)
]
print(json.dumps(result))
"""


def test_native_kernels_give_same_numbers() -> None:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        timeout=300,
    )
    result = json.loads(process.stdout.splitlines()[-1])
    assert result["native"] == pytest.approx(result["plain"], rel=1e-4)
    assert result["apart"] < 1e-4
    assert result["moved"] > 1e-2
    assert max(result["brief"]) < 0.02  # bfloat16 has 8 bits
