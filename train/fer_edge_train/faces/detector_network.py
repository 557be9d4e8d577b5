"""The detector's network, in any Keras backend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import keras
from keras import layers, ops

from fer_edge.errors import ModelError
from fer_edge_train.faces.detector_recipe import STRIDES
from fer_edge_train.network import load_trained

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fer_edge_train.faces.detector_recipe import DetectorNetwork

_Normal = keras.initializers.RandomNormal

CHANNELS: Final = {"score": 1, "box": 4, "landmarks": 10}
_INITIAL_SCORE: Final = 0.01  # of every cell before training (Lin et al. 2017, arXiv:1708.02002)
_INITIAL_SIDE: Final = 2.5  # of every box before training, in strides, so that each level starts with its own sizes


def build_detector(network: DetectorNetwork) -> keras.Model:
    """Build the network that is trained.

    Each 2x2 pixels first become the four channels of one, because convolutions of one channel are slow. A pyramid as
    in Lin et al. 2016 (arXiv:1612.03144) adds features of coarse levels to finer ones, by convolutions whose channels
    become pixels (Shi et al. 2016, arXiv:1609.05158).

    Returns:
        A model from float images of shape (n, rows, columns, 1), values -1..1, rows and columns multiples of 32, to one
        output of shape (n, cells, 15): logit of the score, box and landmarks of every cell. The finest level comes
        first, each level by rows.
    """
    images = keras.Input((None, None, 1), name="image")
    levels = []
    for stride, width, features in zip(STRIDES, network.widths, _pyramid(images, network), strict=True):
        last = separable(features, width, f"last{stride}")
        outputs = [
            layers.Conv2D(channels, 1, kernel_initializer=_Normal(stddev=0.01), name=f"{name}{stride}")(last)
            for name, channels in CHANNELS.items()
        ]
        levels.append(layers.Reshape((-1, sum(CHANNELS.values())))(layers.Concatenate()(outputs)))
    model = keras.Model(images, layers.Concatenate(axis=1)(levels))
    for stride in STRIDES:
        model.get_layer(f"score{stride}").bias.assign([math.log(_INITIAL_SCORE / (1 - _INITIAL_SCORE))])
        model.get_layer(f"box{stride}").bias.assign([0.0, 0.0, math.log(_INITIAL_SIDE), math.log(_INITIAL_SIDE)])
    return model


def to_inference_detector(model: keras.Model) -> keras.Model:
    """Return the network for inference, which shares its weights with the one that is trained.

    Returns:
        A model with nine outputs whose operators can be quantized: for each stride in turn scores, 0..1, boxes and
        landmarks, as in `fer_edge.detection.postprocess.Level`.
    """
    outputs = [model.get_layer(f"{name}{stride}").output for stride in STRIDES for name in CHANNELS]
    every = len(CHANNELS)
    outputs[::every] = [layers.Activation("sigmoid")(score) for score in outputs[::every]]
    return keras.Model(model.input, outputs)


def copy_detector_weights(network: keras.Model, path: Path) -> None:
    """Copy the weights of a trained stage. Residual blocks that it does not have change nothing at first.

    Chen et al. 2015 (arXiv:1511.05641) grow networks in this way.

    Args:
        network: gets the weights.
        path: ``.keras`` of a stage of the same widths and as many blocks or fewer.

    Raises:
        ModelError: the file cannot be read, or the networks do not fit together. Nothing was copied then.
    """
    trained = load_trained(path)
    own, source = ({layer.name: layer for layer in one.layers if layer.weights} for one in (network, trained))
    new = own.keys() - source.keys()
    if not all(name.startswith("block") for name in new) or not _all_fit(own, source):
        raise ModelError(
            f"{path}: weights of another network than the recipe's; give a detector that was trained with this recipe"
        )
    for name, layer in source.items():
        own[name].set_weights(layer.get_weights())
    for name in new:
        if name.endswith("_b_normal"):
            own[name].gamma.assign(ops.zeros_like(own[name].gamma))


def _all_fit(own: Mapping[str, keras.layers.Layer], source: Mapping[str, keras.layers.Layer]) -> bool:
    return all(
        name in own and [w.shape for w in own[name].weights] == [w.shape for w in layer.weights]
        for name, layer in source.items()
    )


def _pyramid(x: keras.KerasTensor, network: DetectorNetwork) -> list[keras.KerasTensor]:
    """Build the features at each stride."""
    x = convolution(ops.space_to_depth(x, 2), network.stem, "stem", strides=2)
    levels = []
    for stride, width, blocks in zip(STRIDES, network.widths, network.blocks, strict=True):
        x = convolution(x, width, f"down{stride}", strides=2)
        for block in range(blocks):
            name = f"block{stride}_{block + 1}"
            y = separable(separable(x, width, f"{name}_a"), width, f"{name}_b", activate=False)
            x = layers.ReLU()(layers.Add()([x, y]))
        levels.append(x)
    for finer in (1, 0):
        width, name = 4 * network.widths[finer], f"up{STRIDES[finer]}"
        coarse = convolution(levels[finer + 1], width, name, kernel=1, activate=False)
        levels[finer] = layers.ReLU()(layers.Add()([levels[finer], ops.depth_to_space(coarse, 2)]))
    return levels


def separable(
    x: keras.KerasTensor, width: int, name: str, *, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    """Apply a depthwise and a pointwise convolution (Howard et al. 2017, arXiv:1704.04861) with one activation."""
    x = layers.DepthwiseConv2D(
        3,
        strides=strides,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise",
    )(x)
    x = layers.BatchNormalization(name=f"{name}_depthwise_normal")(x)
    return convolution(x, width, name, kernel=1, activate=activate)


def convolution(
    x: keras.KerasTensor, width: int, name: str, *, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    """Apply a convolution, batch normalization and, if ``activate``, a ReLU."""
    x = layers.Conv2D(
        width, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(x)
    x = layers.BatchNormalization(name=f"{name}_normal")(x)
    return layers.ReLU()(x) if activate else x
