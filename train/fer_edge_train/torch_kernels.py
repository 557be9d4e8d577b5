"""PyTorch's own kernels for Keras layers that Keras computes in several passes over memory.

Before each convolution, Keras's PyTorch backend copies the images into the channels-first layout, and back after it.
It builds batch normalization from a dozen element-wise operations, and autograd keeps the result of each. Before each
layer, Keras also checks again what the layer takes, whether it is built, and which masks and precisions it has. On a
processor this is most of the training time of a small network: see ``benchmarks/train_kernels.py``.

The functions here replace private functions of Keras, which is why its major version is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast
from unittest.mock import patch

import keras
from keras import layers, ops
from keras.src.layers.convolutional.base_conv import BaseConv
from keras.src.models import functional
from keras.src.ops.nn import SpaceToDepth

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Tensor = Any  # a torch.Tensor; torch is imported only if it is the backend
Layer = Any  # Keras has no types
Call = Callable[..., Tensor]

_RANK: Final = 4  # dimensions of a batch of images
# Layers whose ``call`` is all that is needed if the images have the layer's precision and there are no masks.
_SIMPLE: Final = (
    layers.Activation,
    layers.Add,
    layers.BatchNormalization,
    layers.Concatenate,
    layers.Conv2D,
    layers.Dense,
    layers.DepthwiseConv2D,
    layers.Dropout,
    layers.GlobalAveragePooling2D,
    layers.MaxPooling2D,
    layers.Multiply,
    layers.ReLU,
    layers.Reshape,
)
_keras_operation = functional.operation_fn
_keras_space_to_depth = SpaceToDepth.call
_keras_batch_normalization = layers.BatchNormalization.call
_keras_convolution = BaseConv.convolution_op
_keras_max_pooling = layers.MaxPooling2D.call
_keras_depthwise = layers.DepthwiseConv2D.call


@contextmanager
def native_kernels() -> Iterator[None]:
    """Use PyTorch's kernels to convolve, pool and normalize batches of channels-last images within this context.

    Results stay the same except for rounding. Other backends, and layers that these kernels do not support, do not
    change.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    with (
        patch.object(functional, "operation_fn", _operation_call),
        patch.object(SpaceToDepth, "call", _space_to_depth),
        patch.object(BaseConv, "convolution_op", _convolution),
        patch.object(layers.DepthwiseConv2D, "call", _depthwise_convolution),
        patch.object(layers.MaxPooling2D, "call", _max_pooling),
        patch.object(layers.BatchNormalization, "call", _batch_normalization),
    ):
        yield


def _operation_call(operation: Layer, *, training: bool | None = None, **context: object) -> Call:
    """Return what computes an operation of a model's graph: only the layer's ``call`` if nothing else is needed."""
    if not training or context or type(operation) not in _SIMPLE or not _is_float32(operation):
        return cast("Call", _keras_operation(operation, training=training, **context))
    if not operation._call_has_training_arg:  # noqa: SLF001 - Keras has no public name for it
        return cast("Call", operation.call)

    def call(*args: Tensor, **kwargs: Tensor) -> Tensor:
        return operation.call(*args, **{**kwargs, "training": training})  # the graph was built with another value

    return call


def _is_float32(layer: Layer) -> bool:
    """Return whether a layer is built, computes in float32 and has neither regularization nor quantization."""
    float32 = layer.compute_dtype == layer.variable_dtype == "float32"
    return float32 and layer.built and layer.activity_regularizer is None and layer.quantization_mode is None


def _space_to_depth(operation: Layer, x: Tensor) -> Tensor:
    if _symbolic(x) or operation.data_format != "channels_last" or x.shape[-1] != 1:
        return _keras_space_to_depth(operation, x)
    import torch  # noqa: PLC0415 - only the backend in use is installed

    images = torch.nn.functional.pixel_unshuffle(x.permute(0, 3, 1, 2), operation.block_size)
    return images.permute(0, 2, 3, 1)


def _convolution(layer: Layer, inputs: Tensor, kernel: Tensor) -> Tensor:
    if _symbolic(inputs) or inputs.ndim != _RANK or layer.data_format != "channels_last":
        return _keras_convolution(layer, inputs, kernel)
    return _conv2d(inputs, ops.convert_to_tensor(kernel), layer, layer.groups)


def _depthwise_convolution(layer: Layer, inputs: Tensor) -> Tensor:
    if _symbolic(inputs) or layer.data_format != "channels_last":
        return _keras_depthwise(layer, inputs)
    rows, columns, channels, multiplier = layer.kernel.shape
    kernel = ops.reshape(layer.kernel, (rows, columns, 1, channels * multiplier))
    outputs = _conv2d(inputs, kernel, layer, channels)
    if layer.use_bias:
        outputs = outputs + ops.convert_to_tensor(layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _conv2d(inputs: Tensor, kernel: Tensor, layer: Layer, groups: int) -> Tensor:
    """Convolve images of shape (n, rows, columns, channels), which PyTorch sees as "channels last" without a copy."""
    import torch  # noqa: PLC0415 - only the backend in use is installed

    x = inputs.permute(0, 3, 1, 2)
    padding: Sequence[int] | int = 0
    if layer.padding == "same":
        sides = [
            _padding(size, side, stride, dilation)
            for size, side, stride, dilation in zip(
                x.shape[2:], kernel.shape[:2], layer.strides, layer.dilation_rate, strict=True
            )
        ]
        if all(before == after for before, after in sides):
            padding = [before for before, _ in sides]
        else:
            x = torch.nn.functional.pad(x, [*sides[1], *sides[0]])
    y = torch.nn.functional.conv2d(
        x,
        kernel.permute(3, 2, 0, 1),
        stride=layer.strides,
        padding=padding,
        dilation=layer.dilation_rate,
        groups=groups,
    )
    return y.permute(0, 2, 3, 1)


def _max_pooling(layer: Layer, inputs: Tensor) -> Tensor:
    """Pool images. Keras would leave the result, and all that follows from it, channels first in memory."""
    if _symbolic(inputs) or layer.data_format != "channels_last" or layer.padding != "valid":
        return _keras_max_pooling(layer, inputs)
    import torch  # noqa: PLC0415 - only the backend in use is installed

    pooled = torch.nn.functional.max_pool2d(inputs.permute(0, 3, 1, 2), layer.pool_size, layer.strides)
    return pooled.permute(0, 2, 3, 1)


def _padding(size: int, side: int, stride: int, dilation: int) -> tuple[int, int]:
    """Compute how many zeros TensorFlow's "same" adds before and after."""
    total = max((-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _batch_normalization(
    layer: Layer,
    inputs: Tensor,
    training: bool | None = None,  # noqa: FBT001 - Keras calls it so
    mask: Tensor | None = None,
) -> Tensor:
    images = inputs.ndim == _RANK and layer.axis in {-1, 3}
    if _symbolic(inputs) or not (training and layer.trainable and images) or layer.renorm or mask is not None:
        return _keras_batch_normalization(layer, inputs, training=training, mask=mask)
    import torch  # noqa: PLC0415 - only the backend in use is installed

    gamma = ops.convert_to_tensor(layer.gamma) if layer.scale else None
    beta = ops.convert_to_tensor(layer.beta) if layer.center else None
    x = inputs.permute(0, 3, 1, 2)
    if x.dtype == torch.float16:
        x = x.float()  # sums overflow in half precision; with bfloat16 the kernels use float32 for them
    y, mean, inverse = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, layer.epsilon)  # noqa: FBT003
    with torch.no_grad():
        layer.moving_mean.value.lerp_(mean, 1.0 - layer.momentum)
        layer.moving_variance.value.lerp_(inverse.pow(-2).sub_(layer.epsilon), 1.0 - layer.momentum)
    return ops.cast(y.permute(0, 2, 3, 1), layer.compute_dtype)


def _symbolic(inputs: Tensor) -> bool:
    """Return whether a model is being built, not run. Then Keras's own layers infer the shapes."""
    return isinstance(inputs, keras.KerasTensor) or inputs.device.type == "meta"
