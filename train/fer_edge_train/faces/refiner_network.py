"""The network of a detector's second stage, in any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers, ops

from fer_edge.detection.refiner import OUTPUTS
from fer_edge_train.faces.detector_network import convolution, separable

if TYPE_CHECKING:
    from fer_edge_train.faces.refiner_recipe import RefinerNetwork


def build_refiner(network: RefinerNetwork) -> keras.Model:
    """Build the network that is trained.

    Each 2x2 pixels first become the four channels of one, as in the first stage. A depthwise convolution as large as
    the last features takes the place of their mean (Chen et al. 2018, arXiv:1804.07573): it weights them by their
    place, because the places of the parts of a face tell it from other objects.

    Returns:
        A model from float images of shape (n, side, side, 1), values -1..1, to an output of shape (n, 15): logit of the
        score, box and landmarks as in `fer_edge.detection.refiner.decode_squares`.
    """
    images = keras.Input((network.side, network.side, 1), name="image")
    x = convolution(ops.space_to_depth(images, 2), network.stem, "stem")
    for level, (width, blocks) in enumerate(zip(network.widths, network.blocks, strict=True)):
        # With many channels, a full convolution would have more weights than a block.
        x = (separable if level else convolution)(x, width, f"level{level}", strides=2)
        for block in range(blocks):
            name = f"block{level}_{block + 1}"
            y = separable(separable(x, width, f"{name}_a"), width, f"{name}_b", activate=False)
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.DepthwiseConv2D(x.shape[1:3], use_bias=False, depthwise_initializer="he_normal", name="whole")(x)
    x = layers.BatchNormalization(name="whole_normal")(x)
    x = layers.Flatten(name="last")(convolution(x, network.widths[-1], "head", kernel=1))
    outputs = [layers.Dense(n, name=name)(x) for name, n in OUTPUTS.items()]
    return keras.Model(images, layers.Concatenate()(outputs))


def to_inference_refiner(model: keras.Model) -> keras.Model:
    """Return the network for inference, which shares its weights with the one that is trained.

    Returns:
        A model with three outputs: score, 0..1, box and landmarks.
    """
    score, box, landmarks = (model.get_layer(name).output for name in OUTPUTS)
    return keras.Model(model.input, [layers.Activation("sigmoid")(score), box, landmarks])
