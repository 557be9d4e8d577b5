"""Groups of layers that several architectures use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def conv_bn(
    x: keras.KerasTensor, filters: int, *, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    """Apply a convolution, batch normalization and, if ``activate``, a ReLU."""
    from keras import layers

    x = layers.Conv2D(filters, kernel, strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization(momentum=0.97)(x)
    return layers.ReLU()(x) if activate else x


def dropout(x: keras.KerasTensor, rate: float) -> keras.KerasTensor:
    """Apply dropout, or nothing if the rate is 0."""
    from keras import layers

    return layers.Dropout(rate)(x) if rate else x
