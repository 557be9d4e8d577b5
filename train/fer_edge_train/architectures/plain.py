"""A plain convolutional network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from fer_edge_train.architectures.base import Architecture
from fer_edge_train.architectures.blocks import conv_bn, dropout
from fer_edge_train.recipe_sections import Count, PartialShare

if TYPE_CHECKING:
    from pathlib import Path

    import keras


class Plain(Architecture, frozen=True, kw_only=True, tag="plain"):
    """Blocks of 3x3 convolutions and max pooling, then dense layers.

    Attributes:
        widths: filters of each block.
        convolutions: number of convolutions in each block, before its pooling.
        batch_norm: whether batch normalization follows each convolution (Ioffe & Szegedy 2015, arXiv:1502.03167).
        block_dropout: dropout rate of each block's output.
        top: how the output of the last block becomes a vector: ``flatten`` or the ``average`` over the image.
        dense: units of the dense layers before the output.
        dropout: dropout rate of each dense layer's output.
    """

    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    convolutions: Count = 1
    batch_norm: bool = False
    block_dropout: PartialShare = 0.0
    top: Literal["flatten", "average"] = "flatten"
    dense: tuple[Count, ...] = ()
    dropout: PartialShare = 0.0

    def features(self, images: keras.KerasTensor, weights: Path | None) -> keras.KerasTensor:  # noqa: ARG002
        """Build the layers from the images to the features that the output layer takes."""
        from keras import layers

        x = images
        for width in self.widths:
            for _ in range(self.convolutions):
                if self.batch_norm:
                    x = conv_bn(x, width)
                else:
                    x = layers.Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
            x = dropout(layers.MaxPooling2D()(x), self.block_dropout)
        x = layers.Flatten()(x) if self.top == "flatten" else layers.GlobalAveragePooling2D()(x)
        for units in self.dense:
            x = layers.Dense(units, activation="relu", kernel_initializer="he_normal")(x)
            x = dropout(x, self.dropout)
        return x

    @property
    def takes_any_size(self) -> bool:
        """Whether one network takes images of several sizes."""
        return self.top != "flatten"

    @property
    def has_batch_norm(self) -> bool:
        """Whether the network has batch normalization."""
        return self.batch_norm

    def check_side(self, side: int) -> None:
        """Raise ``ValueError`` if images of ``side`` pixels are too small for the network."""
        if side >> len(self.widths) == 0:
            message = f"network.widths: {len(self.widths)} poolings leave nothing of {side} pixels"
            raise ValueError(message)
