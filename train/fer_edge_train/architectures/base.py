"""The interface of an architecture: a section of the recipe that builds a network and knows how it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.utils.toml import Section

if TYPE_CHECKING:
    from pathlib import Path

    import keras

HEAD: Final = "logits"
AUXILIARY: Final = "auxiliary"


class Phase(NamedTuple):
    """Consecutive epochs with one optimizer.

    Attributes:
        epochs: the epochs, counted from 0.
        rate_factor: factor of the recipe's learning rate.
        frozen: whether a pretrained part of the network keeps its weights.
    """

    epochs: range
    rate_factor: float = 1.0
    frozen: bool = False


class Architecture(Section, frozen=True, kw_only=True, tag_field="kind"):
    """Base class of all architectures. A subclass has its parameters as fields and its name as ``tag``."""

    def features(self, images: keras.KerasTensor, weights: Path | None) -> keras.KerasTensor:
        """Build the layers from the images to the features that the output layer takes.

        Args:
            images: shape (n, size, size, 1), values -1..1.
            weights: file with the weights of a pretrained part, where `takes_backbone_weights`.

        Returns:
            Shape (n, features).

        Raises:
            InputError: the weights of a pretrained part cannot be loaded.
        """
        raise NotImplementedError

    def build(self, classes: int, size: int | None, *, auxiliary: int = 0, weights: Path | None = None) -> keras.Model:
        """Build the network that is trained.

        Args:
            classes: number of outputs.
            size: side of the images in pixels; None takes images of any size, for training at several sizes.
            auxiliary: number of outputs of a second head; 0 builds none.
            weights: file with the weights of a pretrained part, in place of those that the recipe names.

        Returns:
            A model from float images of shape (n, size, size, 1), values -1..1, to a dictionary with the float32
            logits of each head, of shape (n, classes).

        Raises:
            InputError: the weights of a pretrained part cannot be loaded.
        """
        import keras
        from keras import layers

        images = keras.Input((size, size, 1), name="face")
        features = self.features(images, weights)
        heads = {HEAD: layers.Dense(classes, dtype="float32", name=HEAD)(features)}
        if auxiliary:
            heads[AUXILIARY] = layers.Dense(auxiliary, dtype="float32", name=AUXILIARY)(features)
        return keras.Model(images, heads)

    @property
    def takes_any_size(self) -> bool:
        """Whether one network takes images of several sizes."""
        return True

    @property
    def has_batch_norm(self) -> bool:
        """Whether the network has batch normalization."""
        return True

    @property
    def takes_backbone_weights(self) -> bool:
        """Whether ``--weights`` names the weights of a backbone instead of a trained model."""
        return False

    def check_side(self, side: int) -> None:
        """Raise ``ValueError`` if images of ``side`` pixels are too small for the network."""

    def phases(self, epochs: int) -> list[Phase]:
        """Divide the epochs of a run into phases, each of at least one epoch."""
        return [Phase(range(epochs))]

    def set_trainable(self, model: keras.Model, phase: Phase) -> None:
        """Choose the layers of ``model`` that learn in a phase. By default, all of them do."""
