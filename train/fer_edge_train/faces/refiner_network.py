"""The network of a detector's second stage, in any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import keras
from keras import layers, ops

from fer_edge.detection.refiner import OUTPUTS
from fer_edge_train.faces.detector_network import convolution, separable

if TYPE_CHECKING:
    from fer_edge_train.faces.detector_recipe import RefinerNetwork

LAST: Final = "last"


def build(network: RefinerNetwork) -> keras.Model:
    """The network as it learns.

    Each 2x2 pixels become one of four channels first, as in the first stage; the last features are weighed by where
    they are, each channel in its own way (a depthwise convolution as large as they, in place of the mean: Chen et al.
    2018, arXiv:1804.07573), for where the parts of a face lie is what tells faces from other things.

    Returns:
        A model from float images of shape (n, side, side, 1), -1..1, to an output of shape (n, 15): the logit of the
        score, box and landmarks as `fer_edge.detection.refiner.placed` has them.
    """
    images = keras.Input((network.side, network.side, 1), name="image")
    x = convolution(ops.space_to_depth(images, 2), network.stem, "stem")
    for level, (width, blocks) in enumerate(zip(network.widths, network.blocks, strict=True)):
        # Of many channels, a full convolution would hold more weights than a block.
        x = (separable if level else convolution)(x, width, f"level{level}", strides=2)
        for block in range(blocks):
            name = f"block{level}_{block + 1}"
            y = separable(separable(x, width, f"{name}_a"), width, f"{name}_b", activate=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.DepthwiseConv2D(x.shape[1:3], use_bias=False, depthwise_initializer="he_normal", name="whole")(x)
    x = layers.BatchNormalization(name="whole_normal")(x)
    x = layers.Flatten(name=LAST)(convolution(x, network.widths[-1], "head", kernel=1))
    outputs = [layers.Dense(n, name=name)(x) for name, n in OUTPUTS.items()]
    return keras.Model(images, layers.Concatenate()(outputs))


def as_used(model: keras.Model) -> keras.Model:
    """The network as it is used, which shares its weights with the one that learns.

    Returns:
        A model to three outputs: score, 0..1, box and landmarks.
    """
    score, box, landmarks = (model.get_layer(name).output for name in OUTPUTS)
    return keras.Model(model.input, [layers.Activation("sigmoid")(score), box, landmarks])
