"""Batches of scenes for Keras."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import keras
import numpy as np

from fer_edge.modelcard.schema import PixelSpec
from fer_edge_train.faces.detector_targets import MIN_ROWS
from fer_edge_train.faces.scenes import BatchShape, make_scene_batch
from fer_edge_train.prefetch import PrefetchedBatches

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_train.batch_workers import BatchWorkers
    from fer_edge_train.faces.detector_recipe import DetectorRecipe

# With this scale and offset, a pixel becomes an int8 of the quantized model by flipping one bit.
PIXELS: Final = PixelSpec(scale=1 / 128, offset=-1.0)
# More rows than nearly every scene needs: JAX compiles again for other shapes, and empty rows cost a GPU little.
_MIN_ROWS_JAX: Final = 128


class SceneBatches(PrefetchedBatches):
    """Batches of scenes that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(
        self, workers: BatchWorkers, drawn: npt.NDArray[np.int64], recipe: DetectorRecipe, side: int, epochs: range
    ) -> None:
        """Make the batches of ``epochs``.

        Args:
            workers: make batches of `fer_edge_train.faces.scene_sources.SceneSources`.
            drawn: indices of images as there. An epoch draws as many scenes as there are images.
            recipe: batch size, augmentation and seed.
            side: side of the scenes, in pixels.
            epochs: the epochs, counted from 0.
        """
        images = len(np.unique(drawn))
        super().__init__(workers, images // recipe.optimizer.batch_size, epochs)
        self._recipe = recipe
        self._shape = BatchShape(side, _MIN_ROWS_JAX if keras.backend.backend() == "jax" else MIN_ROWS)
        self._order = lru_cache(2)(
            lambda epoch: np.random.default_rng((recipe.seed, epoch)).permutation(drawn)[:images]
        )

    def make(self, epoch: int, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Make images of shape (batch, side, side, 1), and their targets as the loss takes them."""
        count = self._recipe.optimizer.batch_size
        chosen = self._order(epoch)[step * count : (step + 1) * count]
        seed = (self._recipe.seed, epoch, step)
        images, truth = self._batch_workers.run(make_scene_batch, chosen, self._shape, self._recipe.augmentation, seed)
        if step == 0 and keras.backend.backend() == "tensorflow":
            # Keras tells TensorFlow that a dimension is fixed if the first two batches agree in it. TensorFlow then
            # fails at the first batch with another number of rows.
            truth = np.pad(truth, ((0, 0), (0, 1), (0, 0)))
        return PIXELS.normalize(images), truth
