"""Files from which a run can be resumed, written between epochs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fer_edge.errors import ModelError
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_train.history import History
    from fer_edge_train.recipe_sections import Schedule


def is_checkpoint_epoch(epoch: int, schedule: Schedule) -> bool:
    """Return whether a checkpoint is saved after an epoch, counted from 0."""
    return (epoch + 1) % schedule.checkpoint_epochs == 0 or epoch + 1 == schedule.epochs


def find_checkpoints(folder: Path) -> dict[int, Path]:
    """Find the checkpoints in a folder, by the number of epochs that were done."""
    found = ((re.fullmatch(r"checkpoint-(\d+)\.keras", path.name), path) for path in folder.glob("checkpoint-*.keras"))
    return {int(match[1]): path for match, path in found if match}


def load_checkpoint(path: Path) -> keras.Model:
    """Load a model with its optimizer, as they were after an epoch.

    Raises:
        ModelError: the file is damaged.
    """
    try:
        return keras.models.load_model(path)
    except Exception as error:  # a damaged file makes Keras raise errors of many types
        raise ModelError(
            f"{path}: the checkpoint is damaged; delete the folder and start again"
            " (`fer-edge --debug train ...` shows why)"
        ) from error


class Checkpoint(keras.callbacks.Callback):
    """Saves model and optimizer, with the number of the epoch in the file name, and removes older checkpoints."""

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        """Save to ``folder`` after the epochs that a schedule names."""
        super().__init__()
        self._folder, self._schedule = folder, schedule

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Save a checkpoint, then remove those before it."""
        if not is_checkpoint_epoch(epoch, self._schedule):
            return
        with replacing(self._folder / f"checkpoint-{epoch + 1:04d}.keras") as temporary:
            self.model.save(temporary)
        for path in self._folder.glob("checkpoint-*"):
            if path.stem < f"checkpoint-{epoch + 1:04d}":
                path.unlink()


class BestModel(keras.callbacks.Callback):
    """Saves the model after each epoch with the lowest held-out loss so far."""

    def __init__(self, path: Path, history: History, first: int) -> None:
        """Save to ``path``, by the losses in ``history`` from epoch ``first`` on."""
        super().__init__()
        self._path, self._history, self._first = path, history, first

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Save the model if it is the best one."""
        losses = self._history.losses(self._first)
        if losses and losses[-1] == min(losses):
            with replacing(self._path) as temporary:
                self.model.save(temporary)


class WeightAverage(keras.callbacks.Callback):
    """The mean of the weights after each of the last epochs. A file keeps it until the run has ended.

    Attributes:
        weights: the mean so far, with the statistics of batch normalization; None before the first of these epochs.
    """

    def __init__(self, folder: Path, schedule: Schedule, epochs_done: int) -> None:
        """Continue from the mean in ``folder`` after ``epochs_done`` epochs."""
        super().__init__()
        self._folder, self._schedule = folder, schedule
        # The mean of a short run must not contain its first, nearly random weights.
        self._first = schedule.epochs - min(schedule.average_epochs, max(schedule.epochs // 2, 1))
        self.weights: list[npt.NDArray[np.float32]] | None = None
        if epochs_done > self._first:
            with np.load(self._path(epochs_done), allow_pickle=False) as stored:
                self.weights = [stored[name] for name in stored.files]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Add the weights to the mean."""
        if epoch < self._first:
            return
        now = self.model.get_weights()
        share = 1 / (epoch + 1 - self._first)
        means = now if self.weights is None else self.weights
        self.weights = [mean + share * (weight - mean) for mean, weight in zip(means, now, strict=True)]
        if is_checkpoint_epoch(epoch, self._schedule):
            with replacing(self._path(epoch + 1)) as temporary:
                np.savez(temporary, *self.weights)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"checkpoint-{epoch:04d}.npz"
