"""Recomputing the statistics of batch normalization after training."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import keras
from keras import layers

from fer_edge_train.network import iter_layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt


def recompute_batchnorm(model: keras.Model, batches: Iterable[npt.NDArray[np.float32]]) -> None:
    """Set the means and variances of batch normalization to those of the given inputs.

    Those of training come from augmented images. They also lag behind the weights, or belong to other weights than
    their mean (Wu & Johnson 2021, arXiv:2105.07576; for averaged weights Izmailov et al. 2018, arXiv:1803.05407).
    Layers that do not learn, such as those of a frozen backbone, keep theirs. Dropout is off, as in inference.

    Args:
        model: is changed.
        batches: inputs of shape (n, height, width, channels).
    """
    every = list(iter_layers(model))
    momenta = {layer: layer.momentum for layer in every if isinstance(layer, layers.BatchNormalization)}
    rates = {layer: layer.rate for layer in every if isinstance(layer, layers.Dropout)}
    count = 0
    try:
        for layer in rates:
            layer.rate = 0
        for batch in batches:
            count += len(batch)
            for layer in momenta:
                layer.momentum = 1 - len(batch) / count  # the result is the mean over all batches so far
            with _without_gradients():
                model(batch, training=True)
    finally:
        for layer, momentum in momenta.items():
            layer.momentum = momentum
        for layer, rate in rates.items():
            layer.rate = rate


@contextmanager
def _without_gradients() -> Iterator[None]:
    """Keep PyTorch from storing what only a backward pass needs."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch  # noqa: PLC0415 - only the backend in use is installed

    with torch.no_grad():
        yield
