"""Teachers: trained models from whose scores a student learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
from keras import layers, ops

from fer_edge.errors import ModelError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_train.network import copy_model, iter_layers, load_trained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.modelcard.schema import InputSpec


Call = Callable[["npt.NDArray[np.float32]"], Any]  # the result is an array of the backend
Teacher = tuple[keras.Model, "InputSpec", list[int]]


class Teachers:
    """Models whose scores are averaged.

    Attributes:
        labels: names of the classes, in the order of the scores.
    """

    def __init__(self, paths: Sequence[Path], labels: tuple[str, ...], precision: str = "float32") -> None:
        """Load ``.keras`` models with cards, each of which has every one of ``labels``.

        Args:
            paths: files of the models.
            labels: names of the classes.
            precision: Keras's name of the precision of their arithmetic.

        Raises:
            ModelError: a teacher cannot be read or does not have a label.
        """
        self.labels = labels
        self._models: list[Teacher] = []
        self._calls: dict[tuple[int, ...], Call] = {}
        for number, path in enumerate(paths):
            card = read_card(path, ClassifierCard)
            if missing := [label for label in labels if label not in card.labels]:
                known = ", ".join(card.labels)
                raise ModelError(f"{path}: this teacher does not know {', '.join(missing)}; it knows {known}")
            model = _with_precision(load_trained(path), precision)
            model.name = f"teacher-{number}"  # all become parts of one model, in which names must differ
            self._models.append((model, card.input, [card.labels.index(label) for label in labels]))

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Compute mean probabilities of shape (n, labels) for uint8 faces of shape (n, height, width), of any size."""
        shape = faces.shape[1:]
        if shape not in self._calls:
            self._calls[shape] = _compile(_mean_model(self._models, shape))
        return np.asarray(self._calls[shape](faces[..., None].astype(np.float32)), np.float32)


def _with_precision(model: keras.Model, precision: str) -> keras.Model:
    """Copy a model with another precision. Its scores and the models within it keep theirs."""
    if precision == "float32":
        return model
    first = next((i for i, layer in enumerate(model.layers) if isinstance(layer, layers.Dense)), -1)
    keep = {layer.name for layer in iter_layers(model)} - {layer.name for layer in model.layers[:first]}
    return copy_model(model, precision, keep=keep)


def _mean_model(models: Sequence[Teacher], shape: tuple[int, ...]) -> keras.Model:
    """Build one model from images, 0..255, of shape (n, height, width, 1) to the mean of all scores."""
    images = keras.Input((*shape, 1))
    outputs = []
    for model, spec, columns in models:
        resized = images
        if shape != (spec.height, spec.width):
            resized = layers.Resizing(spec.height, spec.width, dtype="float32")(resized)
        output = model(layers.Rescaling(spec.scale, spec.offset, dtype="float32")(resized))
        scores = ops.cast(ops.take(output, columns, axis=1), "float32")
        outputs.append(scores / ops.sum(scores, axis=1, keepdims=True))
    return keras.Model(images, layers.Average(dtype="float32")(outputs) if len(outputs) > 1 else outputs[0])


def _compile(model: keras.Model) -> Call:
    """Make a fast call of a model whose weights do not change."""
    if keras.backend.backend() != "jax":
        return cast("Call", model.predict_on_batch)
    import jax  # noqa: PLC0415 - only the backend in use is installed

    weights = [[each.value for each in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    call = jax.jit(lambda trained, fixed, x: model.stateless_call(trained, fixed, x, training=False)[0])
    return lambda x: call(*weights, x)
