"""Batches for Keras, made beside training from faces that may lie on disk."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fer_edge.errors import FerEdgeError
from fer_edge_train.augment import Targets, augmented
from fer_edge_train.network import HEAD
from fer_edge_train.targets import smoothed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    import numpy.typing as npt

    from fer_edge.modelcard.schema import InputSpec
    from fer_edge_train.augment import Source
    from fer_edge_train.batch_workers import Makers
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.teachers import Teachers

Weighted = tuple["npt.NDArray[np.float32]", Targets, Targets]


@dataclass(frozen=True, slots=True)
class Faces:
    """What batches are made of.

    Attributes:
        faces: uint8 of shape (n, height, width).
        targets: what to teach each head, by name, float32 of shape (n, classes); a row adds up to the weight of its
            face.
        rows: indices of the faces to take.
        spec: what the model takes.
    """

    faces: npt.NDArray[np.uint8]
    targets: Mapping[str, npt.NDArray[np.float32]]
    rows: npt.NDArray[np.int64]
    spec: InputSpec

    @property
    def all(self) -> Source:
        """What `fer_edge_train.augment.augmented` takes batches from."""
        return self.faces.view(np.ndarray), self.targets


class BatchesAhead(keras.utils.PyDataset):
    """Batches that depend on nothing but the epoch and the step, made by threads before they are asked for.

    Keras's own queue carries what is left of one epoch into the next, how much by the luck of its threads; here an
    epoch has its own batches, all of them, whatever Keras asks for besides.
    """

    def __init__(self, crew: Makers, steps: int, epochs: range) -> None:
        """Give ``steps`` batches in each of ``epochs``, which are counted from 0; ``crew`` makes them."""
        super().__init__()
        self._crew, self._steps, self._epochs = crew, steps, epochs
        self._epoch = epochs.start
        self._failure: FerEdgeError | None = None
        self._coming: dict[int, Future[tuple[Any, ...]]] = {}
        self._lock = Lock()  # TensorFlow asks from threads of its own

    @abstractmethod
    def make(self, epoch: int, step: int) -> tuple[Any, ...]:
        """One batch."""

    def __len__(self) -> int:
        """Whole batches an epoch."""
        return self._steps

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        """A batch of the epoch that has begun."""
        with self._lock:
            number = self._epoch * self._steps + step
            end = min(number + 1 + self._crew.ahead, self._epochs.stop * self._steps)
            self._coming = {
                one: self._coming.get(one) or self._crew.soon(self.make, *divmod(one, self._steps))
                for one in range(number, end)
            }
            batch = self._coming[number]
        try:
            return batch.result()
        except FerEdgeError as error:
            self._failure = error
            raise

    def teach(
        self,
        model: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
        watched: keras.utils.PyDataset | None = None,
    ) -> None:
        """Have a compiled model learn from every epoch in turn.

        Args:
            model: which is changed.
            callbacks: what happens between epochs and steps.
            watched: what it is measured by after each epoch.

        Raises:
            FerEdgeError: a batch could not be made.
        """
        begun = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self._begin(epoch))  # noqa: ARG005
        try:
            model.fit(
                self,
                shuffle=False,  # they are already, by the recipe's seed
                validation_data=watched,
                initial_epoch=self._epochs.start,
                epochs=self._epochs.stop,
                callbacks=[begun, *callbacks],
                verbose=0,
            )
        except Exception as error:
            if self._failure and error is not self._failure:  # TensorFlow makes an error of its own of it
                raise self._failure from error
            raise

    def _begin(self, epoch: int) -> None:
        with self._lock:
            self._epoch = epoch


class AugmentedBatches(BatchesAhead):
    """Augmented batches that depend on nothing but the recipe's seed, the epoch and the step."""

    def __init__(
        self, source: Faces, crew: Makers, recipe: Recipe, size: int, epochs: range, *, teachers: Teachers | None
    ) -> None:
        """Give the batches of ``epochs``.

        Args:
            source: faces to learn from.
            crew: what makes batches, of `Faces.all`.
            recipe: batch size, augmentation and seed.
            size: side of the images, in pixels.
            epochs: which, from 0.
            teachers: whom to ask about every image, for the first head.
        """
        super().__init__(crew, len(source.rows) // recipe.optimizer.batch_size, epochs)
        self._source, self._recipe, self._size, self._teachers = source, recipe, size, teachers
        self._order = lru_cache(2)(lambda epoch: np.random.default_rng((recipe.seed, epoch)).permutation(source.rows))

    def make(self, epoch: int, step: int) -> Weighted:
        """Images of shape (batch, size, size, 1), and for each head its targets and the faces' weights."""
        batch, how = self._recipe.optimizer.batch_size, self._recipe.augmentation
        chosen = self._order(epoch)[step * batch : (step + 1) * batch]
        seed = (self._recipe.seed, epoch, step)
        faces, targets = self._crew.make(augmented, chosen, self._size, how, seed)
        if self._teachers:
            own, how_taught = targets[HEAD], self._recipe.target
            turn = (step + epoch) % len(self._teachers) if how_taught.by_turns else None
            answer = smoothed(self._teachers.answer(faces, turn, mirrored=how_taught.mirrored), how_taught)
            share = how_taught.distillation
            targets[HEAD] = (1 - share) * own + share * answer * own.sum(axis=1, keepdims=True)
        # Rows that do not add up to 1 have a wrong gradient in TensorFlow; a weight says the same.
        weights = {name: target.sum(axis=1) for name, target in targets.items()}
        shares = {name: target / weights[name][:, None] for name, target in targets.items()}
        return self._source.spec.normalise(faces), shares, weights


class PlainBatches(keras.utils.PyDataset):
    """Faces as they are, in order, to watch or to predict."""

    def __init__(self, source: Faces, batch: int) -> None:
        """Give ``batch`` faces at a time."""
        super().__init__()
        self._source, self._batch = source, batch

    def __len__(self) -> int:
        """Batches in all, the last one maybe smaller."""
        return math.ceil(len(self._source.rows) / self._batch)

    def __getitem__(self, step: int) -> tuple[npt.NDArray[np.float32], Targets]:
        """Images of shape (batch, height, width, 1) and the targets of each head."""
        chosen = self._source.rows[step * self._batch : (step + 1) * self._batch]
        targets = {name: target[chosen] for name, target in self._source.targets.items()}
        return self._source.spec.normalise(self._source.faces[chosen]), targets
