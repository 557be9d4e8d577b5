"""Batch normalisation's means and variances, measured anew when a network has learnt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import keras
from keras import layers

from fer_edge_train.network import every_layer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt


def restate(model: keras.Model, batches: Iterable[npt.NDArray[np.float32]]) -> None:
    """Measure the statistics by which a trained network normalises, as what it is given now has them.

    Those of training are of augmented images, and lag behind the weights or are a mean of other weights' (Wu &
    Johnson 2021, arXiv:2105.07576; for averaged weights Izmailov et al. 2018, arXiv:1803.05407).  Layers that do not
    learn, such as a frozen backbone's, keep theirs; dropout drops nothing, for what is used drops nothing.

    Args:
        model: which is changed.
        batches: its inputs, of shape (n, height, width, channels).
    """
    every = list(every_layer(model))
    normalising = {layer: layer.momentum for layer in every if isinstance(layer, layers.BatchNormalization)}
    dropping = {layer: layer.rate for layer in every if isinstance(layer, layers.Dropout)}
    seen = 0
    try:
        for layer in dropping:
            layer.rate = 0
        for batch in batches:
            seen += len(batch)
            for layer in normalising:
                layer.momentum = 1 - len(batch) / seen  # the mean of all so far
            with _without_gradients():
                model(batch, training=True)
    finally:
        for layer, momentum in normalising.items():
            layer.momentum = momentum
        for layer, rate in dropping.items():
            layer.rate = rate


@contextmanager
def _without_gradients() -> Iterator[None]:
    """Keep PyTorch from keeping everything for a backward pass that does not come."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch  # noqa: PLC0415 - the backend that is in use

    with torch.no_grad():
        yield
