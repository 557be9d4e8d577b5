"""A pretrained network under a new output layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec

from fer_edge.errors import InputError
from fer_edge_train.architectures.base import Architecture, Phase
from fer_edge_train.architectures.blocks import dropout
from fer_edge_train.architectures.efficientnet_lite import OFFSET, efficientnet_lite, load_imagenet
from fer_edge_train.architectures.resize import resize_cubic
from fer_edge_train.recipe_sections import Number, PartialShare, Positive

if TYPE_CHECKING:
    from pathlib import Path

    import keras

_BACKBONE: Final = "backbone"
# Scale, offset and options that turn inputs of -1..1 into what each backbone was trained with: 1 and 0 keep them,
# 127.5 and 127.5 give 0..255, and VGG and ResNet take 0..255 less the means of ImageNet's blue, green and red.
_BACKBONES: Final[dict[str, tuple[float, float | list[float], dict[str, Any]]]] = {
    "MobileNetV2": (1.0, 0.0, {}),
    "MobileNetV3Small": (127.5, 127.5, {"include_preprocessing": True}),
    "MobileNetV3Large": (127.5, 127.5, {"include_preprocessing": True}),
    "EfficientNetB0": (127.5, 127.5, {}),
    "VGG16": (127.5, [23.561, 10.721, 3.82], {}),
    "ResNet50": (127.5, [23.561, 10.721, 3.82], {}),
}


class Transfer(Architecture, frozen=True, kw_only=True, tag="transfer"):
    """A pretrained network under a new output layer. It resizes grey images itself, and makes them RGB if it must.

    Attributes:
        backbone: EfficientNet-Lite, whose weights are in a Python package, or a network of `keras.applications`.
        side: side of the images that the backbone gets, in pixels.
        weights: ``imagenet`` takes those of the package, or lets Keras download its file; ``none`` starts from random
            weights. ``--weights FILE`` overrides both.
        dropout: dropout rate of the pooled features.
        frozen_epochs: epochs in which only the output layer learns. After them, all layers do.
        fine_tuning_factor: factor of the learning rate after the frozen epochs.
    """

    backbone: Literal[
        "EfficientNetLite0",
        "EfficientNetLite1",
        "EfficientNetLite2",
        "MobileNetV2",
        "MobileNetV3Small",
        "MobileNetV3Large",
        "EfficientNetB0",
        "VGG16",
        "ResNet50",
    ]
    side: Annotated[int, msgspec.Meta(ge=32, le=512)] = 96
    weights: Literal["imagenet", "none"] = "imagenet"
    dropout: PartialShare = 0.2
    frozen_epochs: Number = 3
    fine_tuning_factor: Positive = 0.1

    def features(self, images: keras.KerasTensor, weights: Path | None) -> keras.KerasTensor:
        """Build the layers from the images to the features that the output layer takes."""
        from keras import layers

        if self.backbone not in _BACKBONES:
            lite = efficientnet_lite(self.backbone, self.side, _BACKBONE)
            if weights or self.weights == "imagenet":
                load_imagenet(lite, self.backbone, weights)
            return dropout(lite(resize_cubic(images, self.side, offset=OFFSET)), self.dropout)
        scale, offset, options = _BACKBONES[self.backbone]
        backbone = self._load_backbone(weights, options)
        x = layers.Resizing(self.side, self.side)(images)
        x = layers.Concatenate()([x, x, x])
        return dropout(backbone(layers.Rescaling(scale, offset)(x)), self.dropout)

    @property
    def takes_any_size(self) -> bool:
        """Whether one network takes images of several sizes."""
        return False

    @property
    def has_batch_norm(self) -> bool:
        """Whether the network has batch normalization."""
        return self.backbone != "VGG16"

    @property
    def takes_backbone_weights(self) -> bool:
        """Whether ``--weights`` names the weights of a backbone instead of a trained model."""
        return True

    def phases(self, epochs: int) -> list[Phase]:
        """Divide the epochs into those with a frozen backbone and those of fine-tuning."""
        # Even a run of one epoch fine-tunes: otherwise it would not be a run of this recipe.
        frozen = min(self.frozen_epochs, epochs - 1)
        if not frozen:
            return [Phase(range(epochs))]
        return [Phase(range(frozen), frozen=True), Phase(range(frozen, epochs), self.fine_tuning_factor)]

    def set_trainable(self, model: keras.Model, phase: Phase) -> None:
        """Freeze or unfreeze the backbone."""
        model.get_layer(_BACKBONE).trainable = not phase.frozen

    def _load_backbone(self, file: Path | None, options: dict[str, Any]) -> keras.Model:
        from keras import applications

        shape = (self.side, self.side, 3)
        # The name is given because Keras would number it by what was built before.
        try:
            backbone = getattr(applications, self.backbone)(
                input_shape=shape,
                include_top=False,
                pooling="avg",
                weights=None if file or self.weights == "none" else self.weights,
                name=_BACKBONE,
                **options,
            )
        except Exception as error:  # Keras passes on whatever its downloader raises
            raise InputError(
                f"cannot load the ImageNet weights of {self.backbone} (`fer-edge --debug train ...` shows why):"
                " give a file with --weights FILE, or start from random weights with --set network.weights=none"
            ) from error
        if file:
            try:
                backbone.load_weights(file)
            except Exception as error:  # h5py and Keras raise errors of many types
                raise InputError(
                    f"{file}: not the weights of {self.backbone} without its top (`fer-edge --debug train ...` shows"
                    f" why); save them with keras.applications.{self.backbone}(include_top=False).save_weights(FILE)"
                ) from error
        return backbone
