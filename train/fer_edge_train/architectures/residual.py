"""A residual network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from fer_edge_train.architectures.base import Architecture
from fer_edge_train.architectures.blocks import conv_bn, dropout
from fer_edge_train.recipe_sections import Count, Number, PartialShare

if TYPE_CHECKING:
    from pathlib import Path

    import keras


class Residual(Architecture, frozen=True, kw_only=True, tag="residual"):
    """A residual network (He et al. 2015, arXiv:1512.03385) of plain 3x3 convolutions.

    Attributes:
        stem: filters of the first convolution, which is 5x5.
        stem_strides: strides of the first convolution. With 1, the first stage works on the full image size.
        widths: filters of each stage. Every stage but the first halves the image.
        blocks: number of residual blocks of two convolutions in each stage.
        se_reduction: reduction ratio of the squeeze-and-excitation in each block (Hu et al. 2017, arXiv:1709.01507),
            which weights the channels by their means over the image; 0 leaves it out.
        dropout: dropout rate of the pooled features.
    """

    stem: Count
    stem_strides: Literal[1, 2] = 2
    widths: Annotated[tuple[Count, ...], msgspec.Meta(min_length=1)]
    blocks: tuple[Number, ...]
    se_reduction: Number = 0
    dropout: PartialShare = 0.0

    def __post_init__(self) -> None:
        """Check the relations between fields."""
        if len(self.widths) != len(self.blocks):
            message = "network.widths and network.blocks must have the same length"
            raise ValueError(message)

    def features(self, images: keras.KerasTensor, weights: Path | None) -> keras.KerasTensor:  # noqa: ARG002
        """Build the layers from the images to the features that the output layer takes."""
        from keras import layers

        x = conv_bn(images, self.stem, kernel=5, strides=self.stem_strides)
        for stage, (width, blocks) in enumerate(zip(self.widths, self.blocks, strict=True)):
            if stage > 0 or width != self.stem:
                x = conv_bn(x, width, strides=2 if stage > 0 else 1)
            for _ in range(blocks):
                y = conv_bn(conv_bn(x, width), width, activate=False)
                if self.se_reduction:
                    y = _squeeze_excite(y, width, self.se_reduction)
                x = layers.ReLU()(layers.Add()([x, y]))
        return dropout(layers.GlobalAveragePooling2D()(x), self.dropout)


def _squeeze_excite(x: keras.KerasTensor, width: int, reduction: int) -> keras.KerasTensor:
    from keras import layers

    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(max(width // reduction, 4), 1, activation="relu", kernel_initializer="he_normal")(y)
    return layers.Multiply()([x, layers.Conv2D(width, 1, activation="sigmoid")(y)])
