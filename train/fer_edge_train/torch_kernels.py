"""Keras's layers by PyTorch's own kernels, where Keras puts several passes over memory in their place.

Keras's backend for PyTorch copies the images before each convolution into the channels-first layout and back, and
puts batch normalisation together from a dozen element-wise operations, each of which autograd remembers. Before each
layer Keras then asks anew what the layer takes, whether it is built, which masks and precisions hold. On a processor
that is most of the time of a small network's training: ``benchmarks/train_kernels.py``.
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

Tensor = Any  # torch's, which is imported where it is the backend
Layer = Any  # Keras has no types
Call = Callable[..., Tensor]

_RANK: Final = 4  # of a batch of images
# Layers of which nothing but their ``call`` is needed where images are in their own precision and none are masked.
_BARE: Final = (
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
_operation = functional.operation_fn
_space_to_depth = SpaceToDepth.call
_normalise = layers.BatchNormalization.call
_convolve = BaseConv.convolution_op
_pool = layers.MaxPooling2D.call
_convolve_depthwise = layers.DepthwiseConv2D.call


@contextmanager
def native_kernels() -> Iterator[None]:
    """While this lasts, have PyTorch's kernels convolve, pool and normalise batches of channels-last images.

    Numbers stay the same but for rounding. Other backends, and layers that these kernels do not serve, are left alone.
    """
    if keras.backend.backend() != "torch":
        yield
        return
    with (
        patch.object(functional, "operation_fn", _called),
        patch.object(SpaceToDepth, "call", _depth),
        patch.object(BaseConv, "convolution_op", _convolution),
        patch.object(layers.DepthwiseConv2D, "call", _depthwise),
        patch.object(layers.MaxPooling2D, "call", _max_pooling),
        patch.object(layers.BatchNormalization, "call", _batch_normalisation),
    ):
        yield


def _called(operation: Layer, *, training: bool | None = None, **context: object) -> Call:
    """What computes an operation of a model's graph: a layer's own ``call`` where that is all there is to do."""
    if not training or context or type(operation) not in _BARE or not _plain(operation):
        return cast("Call", _operation(operation, training=training, **context))
    if not operation._call_has_training_arg:  # noqa: SLF001 - Keras tells by nothing else
        return cast("Call", operation.call)

    def learn(*args: Tensor, **kwargs: Tensor) -> Tensor:
        return operation.call(*args, **{**kwargs, "training": training})  # in place of what the graph was built with

    return learn


def _plain(layer: Layer) -> bool:
    precise = layer.compute_dtype == layer.variable_dtype == "float32"
    return precise and layer.built and layer.activity_regularizer is None and layer.quantization_mode is None


def _depth(operation: Layer, x: Tensor) -> Tensor:
    if _symbolic(x) or operation.data_format != "channels_last" or x.shape[-1] != 1:
        return _space_to_depth(operation, x)
    import torch  # noqa: PLC0415 - the backend that is in use

    images = torch.nn.functional.pixel_unshuffle(x.permute(0, 3, 1, 2), operation.block_size)
    return images.permute(0, 2, 3, 1)


def _convolution(layer: Layer, inputs: Tensor, kernel: Tensor) -> Tensor:
    if _symbolic(inputs) or inputs.ndim != _RANK or layer.data_format != "channels_last":
        return _convolve(layer, inputs, kernel)
    return _conv2d(inputs, ops.convert_to_tensor(kernel), layer, layer.groups)


def _depthwise(layer: Layer, inputs: Tensor) -> Tensor:
    if _symbolic(inputs) or layer.data_format != "channels_last":
        return _convolve_depthwise(layer, inputs)
    rows, columns, channels, multiplier = layer.kernel.shape
    kernel = ops.reshape(layer.kernel, (rows, columns, 1, channels * multiplier))
    outputs = _conv2d(inputs, kernel, layer, channels)
    if layer.use_bias:
        outputs = outputs + ops.convert_to_tensor(layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)


def _conv2d(inputs: Tensor, kernel: Tensor, layer: Layer, groups: int) -> Tensor:
    """A convolution of (n, rows, columns, channels), whose layout in memory is PyTorch's "channels last"."""
    import torch  # noqa: PLC0415 - the backend that is in use

    x = inputs.permute(0, 3, 1, 2)
    around: Sequence[int] | int = 0
    if layer.padding == "same":
        sides = [
            _padding(size, side, stride, dilation)
            for size, side, stride, dilation in zip(
                x.shape[2:], kernel.shape[:2], layer.strides, layer.dilation_rate, strict=True
            )
        ]
        if all(before == after for before, after in sides):
            around = [before for before, _ in sides]
        else:
            x = torch.nn.functional.pad(x, [*sides[1], *sides[0]])
    y = torch.nn.functional.conv2d(
        x,
        kernel.permute(3, 2, 0, 1),
        stride=layer.strides,
        padding=around,
        dilation=layer.dilation_rate,
        groups=groups,
    )
    return y.permute(0, 2, 3, 1)


def _max_pooling(layer: Layer, inputs: Tensor) -> Tensor:
    """Keras would leave its results, and all that comes after them, channels first in memory."""
    if _symbolic(inputs) or layer.data_format != "channels_last" or layer.padding != "valid":
        return _pool(layer, inputs)
    import torch  # noqa: PLC0415 - the backend that is in use

    pooled = torch.nn.functional.max_pool2d(inputs.permute(0, 3, 1, 2), layer.pool_size, layer.strides)
    return pooled.permute(0, 2, 3, 1)


def _padding(size: int, side: int, stride: int, dilation: int) -> tuple[int, int]:
    """Zeros before and after, as TensorFlow's "same" has them."""
    total = max((-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _batch_normalisation(
    layer: Layer,
    inputs: Tensor,
    training: bool | None = None,  # noqa: FBT001 - as Keras calls it
    mask: Tensor | None = None,
) -> Tensor:
    images = inputs.ndim == _RANK and layer.axis in {-1, 3}
    if _symbolic(inputs) or not (training and layer.trainable and images) or layer.renorm or mask is not None:
        return _normalise(layer, inputs, training=training, mask=mask)
    import torch  # noqa: PLC0415 - the backend that is in use

    gamma = ops.convert_to_tensor(layer.gamma) if layer.scale else None
    beta = ops.convert_to_tensor(layer.beta) if layer.center else None
    x = inputs.permute(0, 3, 1, 2)
    if x.dtype == torch.float16:
        x = x.float()  # sums overflow half precision; of bfloat16 the kernels keep them in float32 themselves
    y, mean, inverse = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, layer.epsilon)  # noqa: FBT003
    with torch.no_grad():
        layer.moving_mean.value.lerp_(mean, 1.0 - layer.momentum)
        layer.moving_variance.value.lerp_(inverse.pow(-2).sub_(layer.epsilon), 1.0 - layer.momentum)
    return ops.cast(y.permute(0, 2, 3, 1), layer.compute_dtype)


def _symbolic(inputs: Tensor) -> bool:
    """Whether a model is being built rather than run, for which Keras's own layers tell the shapes."""
    return isinstance(inputs, keras.KerasTensor) or inputs.device.type == "meta"
