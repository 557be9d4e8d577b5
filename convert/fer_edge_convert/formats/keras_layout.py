"""Calculate layers of Keras with channels last that a processor does not calculate with channels first."""

from __future__ import annotations

from typing import Any, Final

# Layers of which TensorFlow has kernels with channels first for GPUs alone.
_TRANSPOSED: Final = {"AveragePooling2D", "Conv2D", "DepthwiseConv2D", "MaxPooling2D", "SeparableConv2D"}


def calculate_with_channels_last(model: Any) -> bool:  # noqa: ANN401 - a model of either Keras
    """Let convolutions and poolings with channels first transpose what they take and give.

    Returns:
        Whether there were any.
    """
    found = [
        layer
        for layer in model._flatten_layers()  # noqa: SLF001 - also those of models inside it
        if type(layer).__name__ in _TRANSPOSED and layer.data_format == "channels_first"
    ]
    for layer in found:
        _transpose(layer)
    return bool(found)


def _transpose(layer: Any) -> None:  # noqa: ANN401 - of either Keras
    import tensorflow as tf  # noqa: PLC0415 - takes seconds

    call = layer.call

    def transposed(image: Any) -> Any:  # noqa: ANN401 - a tensor
        return tf.transpose(call(tf.transpose(image, (0, 2, 3, 1))), (0, 3, 1, 2))

    layer.data_format = "channels_last"
    if hasattr(layer, "_tf_data_format"):  # where convolutions of Keras 2 keep it
        layer._tf_data_format, layer._channels_first = "NHWC", False  # noqa: SLF001 - Keras has no other way
    layer.call = transposed
