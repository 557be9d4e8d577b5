"""Batches of scenes for Keras, made beside training."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import keras
import numpy as np

from fer_edge.modelcard.schema import PixelSpec
from fer_edge_train.batches import BatchesAhead
from fer_edge_train.faces.detector_targets import LEAST_ROWS, Marked
from fer_edge_train.faces.scenes import Shape, Source, Stock, batch
from fer_edge_train.faces.yunet_teacher import Teacher

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset, FaceImage
    from fer_edge_train.batch_workers import Makers
    from fer_edge_train.faces.detector_recipe import Data, FacesRecipe

# With this scale and offset a pixel becomes an int8 of the quantised model by flipping one bit.
PIXELS: Final = PixelSpec(scale=1 / 128, offset=-1.0)
# More than nearly every scene has, for JAX compiles anew for other shapes, and a GPU hardly notices rows of zeros.
_ROWS_WHERE_COMPILED: Final = 128


def stock(
    data: FaceDataset, recipe: Data, pasted: npt.NDArray[np.uint8] | None = None, teacher: Path | None = None
) -> Stock:
    """All images in memory, with what the recipe makes of their labels.

    Args:
        data: with marked faces.
        recipe: which sources and labels count.
        pasted: faces to paste, uint8 of shape (n, side, side).
        teacher: YuNet's ONNX file, to ask about every scene.

    Raises:
        DataError: an image cannot be read.
    """
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        grays = list(pool.map(data.gray, range(len(data))))
    images = [Source(gray, _marked(one, recipe)) for gray, one in zip(grays, data.images, strict=True)]
    empty = [i for i, one in enumerate(data.images) if not len(one.boxes) and not len(one.ignored)]
    times = [
        recipe.hard_times if len(one.marked.scores) and one.marked.scores.min() < recipe.hard_score else 1
        for one in images
    ]
    return Stock(
        images,
        np.array(empty, np.int64),
        np.repeat(np.arange(len(images)), times),
        np.empty((0, 48, 48), np.uint8) if pasted is None else pasted,
        Teacher(teacher, recipe.teacher_sizes) if teacher else None,
    )


def _marked(image: FaceImage, recipe: Data) -> Marked:
    """An image's marks, less those that are doubted."""
    sure = np.ones(len(image.boxes), bool)
    if image.name.startswith(recipe.doubtful):
        sure = image.scores >= recipe.least_score
    ignored = np.concatenate((image.ignored, image.boxes[~sure]))
    return Marked(image.boxes[sure], image.landmarks[sure], image.scores[sure], ignored)


class SceneBatches(BatchesAhead):
    """Batches of scenes that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(
        self, crew: Makers, drawn: npt.NDArray[np.int64], recipe: FacesRecipe, side: int, epochs: range
    ) -> None:
        """Give the batches of ``epochs``.

        Args:
            crew: what makes batches, of a `Stock`.
            drawn: as that has it; an epoch draws as many scenes as there are images.
            recipe: batch size, augmentation and seed.
            side: of the scenes, in pixels.
            epochs: which, from 0.
        """
        images = len(np.unique(drawn))
        super().__init__(crew, images // recipe.optimizer.batch_size, epochs)
        self._recipe = recipe
        self._shape = Shape(side, _ROWS_WHERE_COMPILED if keras.backend.backend() == "jax" else LEAST_ROWS)
        self._order = lru_cache(2)(
            lambda epoch: np.random.default_rng((recipe.seed, epoch)).permutation(drawn)[:images]
        )

    def make(self, epoch: int, step: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Images of shape (batch, side, side, 1), and what is in them as `fer_edge_train.faces.scenes.batch`."""
        size, how = self._recipe.optimizer.batch_size, self._recipe.augmentation
        chosen = self._order(epoch)[step * size : (step + 1) * size]
        seed = (self._recipe.seed, epoch, step)
        images, truth = self._crew.make(batch, chosen, self._shape, how, seed)
        if step == 0 and keras.backend.backend() == "tensorflow":
            # Keras has it take for fixed what is alike in the first two batches, and fail at the first other number.
            truth = np.pad(truth, ((0, 0), (0, 1), (0, 0)))
        return PIXELS.normalise(images), truth
