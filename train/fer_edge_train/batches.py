"""Batches of faces for Keras, from faces that may lie on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import keras
import numpy as np

from fer_edge_train.augment import Targets
from fer_edge_train.make_batch import BankAnswers, BatchSource, make_batch
from fer_edge_train.prefetch import PrefetchedBatches

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from fer_edge.modelcard.schema import InputSpec
    from fer_edge_train.batch_workers import BatchWorkers
    from fer_edge_train.recipe import Recipe

WeightedBatch = tuple["npt.NDArray[np.float32]", Targets, Targets]


@dataclass(frozen=True, slots=True)
class FaceSource:
    """What batches are made from.

    Attributes:
        faces: uint8 of shape (n, height, width).
        targets: targets of each head, by its name, float32 of shape (n, classes). A row adds up to the weight of its
            face.
        rows: indices of the faces to take.
        spec: input of the model.
        answers: answers of teachers that are part of the targets, and the views that go with them.
    """

    faces: npt.NDArray[np.uint8]
    targets: Mapping[str, npt.NDArray[np.float32]]
    rows: npt.NDArray[np.int64]
    spec: InputSpec
    answers: BankAnswers | None = None

    @property
    def arrays(self) -> BatchSource:
        """What `fer_edge_train.make_batch.make_batch` takes."""
        return BatchSource(self.faces.view(np.ndarray), self.targets, self.answers)


class AugmentedBatches(PrefetchedBatches):
    """Augmented batches that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(self, source: FaceSource, workers: BatchWorkers, recipe: Recipe, size: int, epochs: range) -> None:
        """Make the batches of ``epochs``.

        Args:
            source: faces to learn from.
            workers: make batches of `FaceSource.arrays`.
            recipe: batch size, augmentation and seed.
            size: side of the images, in pixels.
            epochs: the epochs, counted from 0.
        """
        super().__init__(workers, len(source.rows) // recipe.optimizer.batch_size, epochs)
        self._source, self._recipe, self._size = source, recipe, size
        self._order = lru_cache(2)(lambda epoch: np.random.default_rng((recipe.seed, epoch)).permutation(source.rows))

    def make(self, epoch: int, step: int) -> WeightedBatch:
        """Make images of shape (batch, size, size, 1), and for each head its targets and the weights of the faces."""
        count = self._recipe.optimizer.batch_size
        rows = self._order(epoch)[step * count : (step + 1) * count]
        faces, targets = self._batch_workers.run(make_batch, rows, self._size, self._recipe, (epoch, step))
        return weigh(self._source.spec.normalize(faces), targets)


def weigh(images: npt.NDArray[np.float32], targets: Targets) -> WeightedBatch:
    """Make weights of the sums of the targets' rows.

    TensorFlow computes a wrong gradient for rows that do not add up to 1; a weight has the same effect.
    """
    weights = {name: target.sum(axis=1) for name, target in targets.items()}
    return images, {name: target / weights[name][:, None] for name, target in targets.items()}, weights


class PlainBatches(keras.utils.PyDataset):
    """Faces without augmentation, in order, for validation and prediction."""

    def __init__(self, source: FaceSource, batch_size: int) -> None:
        """Make batches of ``batch_size`` faces."""
        super().__init__()
        self._source, self._batch_size = source, batch_size

    def __len__(self) -> int:
        """Return the number of batches; the last one may be smaller."""
        return math.ceil(len(self._source.rows) / self._batch_size)

    def __getitem__(self, step: int) -> tuple[npt.NDArray[np.float32], Targets]:
        """Return images of shape (batch, height, width, 1) and the targets of each head."""
        rows = self._source.rows[step * self._batch_size : (step + 1) * self._batch_size]
        targets = {name: target[rows] for name, target in self._source.targets.items()}
        return self._source.spec.normalize(self._source.faces[rows]), targets
