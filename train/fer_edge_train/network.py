"""Changing trained networks: their precision, their heads and their weights. Works with any Keras backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from fer_edge.errors import ModelError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.architectures.base import HEAD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from fer_edge_train.calibration import Calibration


def to_inference_classifier(trained: keras.Model, size: int) -> keras.Model:
    """Copy what computes the first head's logits, in float32 and for images of one size."""
    keras.config.set_dtype_policy("float32")
    return copy_model(first_head(trained), "float32", images=keras.Input((size, size, 1), name="face"))


def copy_model(
    model: keras.Model, precision: str, images: keras.KerasTensor | None = None, keep: Collection[str] = ()
) -> keras.Model:
    """Copy a model with another precision.

    Args:
        model: may contain other models.
        precision: Keras's name of the precision of the arithmetic.
        images: input of the copy; None means the same input as the model's.
        keep: names of layers that keep their precision.
    """

    def copy_layer(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer.name not in keep and "dtype" in config:
            config["dtype"] = precision
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, images, clone_function=copy_layer, recursive=True)
    copy.set_weights(model.get_weights())
    for layer in iter_layers(copy):
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()  # otherwise it goes on with the statistics from before set_weights
    return copy


def iter_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """Iterate over the layers of a model and of the models within it."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from iter_layers(layer)
        else:
            yield layer


def freeze_early_layers(model: keras.Model, share: float) -> None:
    """Let early layers keep their weights, and all batch normalization its statistics, weights and biases.

    Args:
        model: is changed.
        share: share of the layers with a kernel that are frozen, counted from the input; the last one always learns.
    """
    every = list(iter_layers(model))
    kernels = [layer for layer in every if any("kernel" in weight.name for weight in layer.weights)]
    frozen = kernels[: min(round(share * len(kernels)), len(kernels) - 1)]
    for layer in every:
        layer.trainable = layer not in frozen and not isinstance(layer, layers.BatchNormalization)


def first_head(model: keras.Model) -> keras.Model:
    """Return the model from the input to the logits of the first head. It shares its weights with ``model``."""
    return keras.Model(model.input, model.get_layer(HEAD).output)


def with_probabilities(model: keras.Model, calibration: Calibration) -> keras.Model:
    """Return the same network with calibrated probabilities as output.

    The calibration becomes part of the weights of the last layer of ``model``.
    """
    head = model.get_layer(HEAD)
    weights, biases = head.get_weights()
    head.set_weights([weights / calibration.temperature, biases / calibration.temperature + calibration.biases])
    return keras.Model(model.input, layers.Softmax(name="scores")(head.output))


def load_trained(path: Path) -> keras.Model:
    """Load a trained model without its optimizer.

    Raises:
        ModelError: the file is missing, damaged or of another kind.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:  # a damaged file makes Keras raise errors of many types
        raise ModelError(
            f"{path}: missing, damaged or not a .keras file; train it again (`fer-edge --debug train ...` shows why)"
        ) from error


def copy_classifier_weights(model: keras.Model, path: Path, labels: tuple[str, ...]) -> None:
    """Copy the weights of a trained classifier into the first head and what comes before it.

    Outputs for labels that the trained classifier does not have keep their weights.

    Args:
        model: gets the weights.
        path: the trained ``.keras``, with a card.
        labels: names of the outputs of ``model``.

    Raises:
        ModelError: the file cannot be read, or holds another network.
    """
    card = read_card(path, ClassifierCard)
    source = load_trained(path).get_weights()
    target_model = first_head(model)
    target = target_model.get_weights()
    # The last two arrays are those of the output layer, which may have another number of outputs.
    if [w.shape for w in source[:-2]] + [source[-2].shape[0]] != [w.shape for w in target[:-2]] + [target[-2].shape[0]]:
        raise ModelError(
            f"{path}: weights of another network than the recipe's; give a model that was trained with this recipe"
        )
    for i, label in enumerate(labels):
        if label in card.labels:
            for own, other in zip(target[-2:], source[-2:], strict=True):
                own[..., i] = other[..., card.labels.index(label)]
    target_model.set_weights([*source[:-2], *target[-2:]])
