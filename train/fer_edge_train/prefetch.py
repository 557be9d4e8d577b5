"""Batches that are made before Keras asks for them."""

from __future__ import annotations

from abc import abstractmethod
from threading import Lock
from typing import TYPE_CHECKING, Any

import keras

from fer_edge.errors import FerEdgeError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from fer_edge_train.batch_workers import BatchWorkers


class PrefetchedBatches(keras.utils.PyDataset):
    """Batches that depend on nothing but the epoch and the step. Workers make them in advance.

    Keras's own queue carries batches from one epoch into the next, and how many depends on its threads. Here every
    epoch has its own batches, whatever else Keras asks for.
    """

    def __init__(self, workers: BatchWorkers, steps: int, epochs: range) -> None:
        """Make ``steps`` batches in each of ``epochs``, counted from 0."""
        super().__init__()
        # Keras has an attribute `_workers` of its own.
        self._batch_workers, self._steps, self._epochs = workers, steps, epochs
        self._epoch = epochs.start
        self._failure: FerEdgeError | None = None
        self._pending: dict[int, Future[tuple[Any, ...]]] = {}
        self._lock = Lock()  # TensorFlow asks from its own threads

    @abstractmethod
    def make(self, epoch: int, step: int) -> tuple[Any, ...]:
        """Make one batch."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._steps

    def __getitem__(self, step: int) -> tuple[Any, ...]:
        """Return a batch of the current epoch."""
        with self._lock:
            number = self._epoch * self._steps + step
            end = min(number + 1 + self._batch_workers.prefetch, self._epochs.stop * self._steps)
            self._pending = {
                one: self._pending.get(one) or self._batch_workers.submit(self.make, *divmod(one, self._steps))
                for one in range(number, end)
            }
            batch = self._pending[number]
        try:
            return batch.result()
        except FerEdgeError as error:
            self._failure = error
            raise

    def fit(
        self,
        model: keras.Model,
        callbacks: Sequence[keras.callbacks.Callback],
        validation: keras.utils.PyDataset | None = None,
    ) -> None:
        """Train a compiled model on the batches of every epoch.

        Args:
            model: is changed.
            callbacks: Keras callbacks.
            validation: what the model is measured on after each epoch.

        Raises:
            FerEdgeError: a batch could not be made.
        """
        start_epoch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: self._start_epoch(epoch))  # noqa: ARG005
        try:
            model.fit(
                self,
                shuffle=False,  # the recipe's seed has shuffled them
                validation_data=validation,
                initial_epoch=self._epochs.start,
                epochs=self._epochs.stop,
                callbacks=[start_epoch, *callbacks],
                verbose=0,
            )
        except Exception as error:
            if self._failure and error is not self._failure:  # TensorFlow raises an error of its own instead
                raise self._failure from error
            raise

    def _start_epoch(self, epoch: int) -> None:
        with self._lock:
            self._epoch = epoch
