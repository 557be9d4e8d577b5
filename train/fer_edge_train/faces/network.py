"""The detector's network, in any Keras backend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import keras
from keras import layers, ops

from fer_edge_train.faces.recipe import STRIDES

if TYPE_CHECKING:
    from fer_edge_train.faces.recipe import Network

_Normal = keras.initializers.RandomNormal

CHANNELS: Final = {"score": 1, "box": 4, "landmarks": 10}
_FIRST_SCORE: Final = 0.01  # what every cell says before it has learnt (Lin et al. 2017, arXiv:1708.02002)
_FIRST_SIDE: Final = 2.5  # how many strides every box measures by then, so that each level has sizes of its own


def build(network: Network) -> keras.Model:
    """The network as it learns.

    Each 2x2 pixels become one of four channels first, for convolutions of one channel are slow; features of coarse
    levels come to the finer ones by convolutions whose channels become pixels (Shi et al. 2016, arXiv:1609.05158), in a
    pyramid as in Lin et al. 2016 (arXiv:1612.03144).

    Returns:
        A model from float pictures of shape (n, rows, columns, 1), -1..1, both a multiple of 32, to one output of shape
        (n, cells, 15): the logit of the score, box and landmarks of every cell, finest level first, each level by rows.
    """
    pictures = keras.Input((None, None, 1), name="picture")
    levels = []
    for stride, width, features in zip(STRIDES, network.widths, _pyramid(pictures, network), strict=True):
        last = _separable(features, width)
        outputs = [
            layers.Conv2D(channels, 1, kernel_initializer=_Normal(stddev=0.01), name=f"{name}{stride}")(last)
            for name, channels in CHANNELS.items()
        ]
        levels.append(layers.Reshape((-1, sum(CHANNELS.values())))(layers.Concatenate()(outputs)))
    model = keras.Model(pictures, layers.Concatenate(axis=1)(levels))
    for stride in STRIDES:
        model.get_layer(f"score{stride}").bias.assign([math.log(_FIRST_SCORE / (1 - _FIRST_SCORE))])
        model.get_layer(f"box{stride}").bias.assign([0.0, 0.0, math.log(_FIRST_SIDE), math.log(_FIRST_SIDE)])
    return model


def as_used(model: keras.Model) -> keras.Model:
    """The network as it is used, which shares its weights with the one that learns.

    Returns:
        A model to nine outputs, of operators that have an integer form: for each stride in turn scores, 0..1, boxes and
        landmarks, as `fer_edge.face_decoding.Level` has them.
    """
    outputs = [model.get_layer(f"{name}{stride}").output for stride in STRIDES for name in CHANNELS]
    every = len(CHANNELS)
    outputs[::every] = [layers.Activation("sigmoid")(score) for score in outputs[::every]]
    return keras.Model(model.input, outputs)


def _pyramid(x: keras.KerasTensor, network: Network) -> list[keras.KerasTensor]:
    """Features at each stride."""
    x = _convolution(ops.space_to_depth(x, 2), network.stem, strides=2)
    levels = []
    for width, blocks in zip(network.widths, network.blocks, strict=True):
        x = _convolution(x, width, strides=2)
        for _ in range(blocks):
            y = _separable(_separable(x, width), width, activate=False)
            x = layers.ReLU()(layers.Add()([x, y]))
        levels.append(x)
    for finer in (1, 0):
        coarse = _convolution(levels[finer + 1], 4 * network.widths[finer], kernel=1, activate=False)
        levels[finer] = layers.ReLU()(layers.Add()([levels[finer], ops.depth_to_space(coarse, 2)]))
    return levels


def _separable(x: keras.KerasTensor, width: int, *, activate: bool = True) -> keras.KerasTensor:
    """A depthwise and a pointwise convolution (Howard et al. 2017, arXiv:1704.04861), one activation for both."""
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, depthwise_initializer="he_normal")(x)
    return _convolution(layers.BatchNormalization()(x), width, kernel=1, activate=activate)


def _convolution(
    x: keras.KerasTensor, width: int, *, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(width, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if activate else x
