"""The networks that recipes name, in any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

if TYPE_CHECKING:
    from fer_edge_train.recipe import Network


def build(network: Network, classes: int, size: int | None = None) -> keras.Model:
    """Build a network that gives logits.

    Args:
        network: its shape.
        classes: how many outputs.
        size: side of the pictures; None takes any, for training at several.

    Returns:
        A model from float pictures of shape (n, size, size, 1) to float32 logits of shape (n, classes).
    """
    pictures = keras.Input((size, size, 1), name="face")
    x = _convolution(pictures, network.stem, kernel=5, strides=2)
    for stage, (width, pairs) in enumerate(zip(network.widths, network.pairs, strict=True)):
        if stage > 0 or width != network.stem:
            x = _convolution(x, width, strides=2 if stage > 0 else 1)
        for _ in range(pairs):
            y = _convolution(_convolution(x, width), width, activate=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    if network.dropout:
        x = layers.Dropout(network.dropout)(x)
    logits = layers.Dense(classes, dtype="float32", name="logits")(x)
    return keras.Model(pictures, logits)


def with_probabilities(trained: keras.Model, network: Network, size: int, temperature: float) -> keras.Model:
    """A copy in float32, for one picture size, that ends in calibrated probabilities.

    The temperature (Guo et al. 2017, arXiv:1706.04599) is folded into the last layer's weights.
    """
    keras.config.set_dtype_policy("float32")
    classes = trained.output_shape[-1]
    model = build(network, classes, size)
    model.set_weights(trained.get_weights())
    logits = model.get_layer("logits")
    logits.set_weights([weight / temperature for weight in logits.get_weights()])
    return keras.Model(model.input, layers.Softmax(name="scores")(model.output))


def _convolution(
    x: keras.KerasTensor, filters: int, *, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.97)(x)
    return layers.ReLU()(x) if activate else x
