"""What happens between epochs; all of it follows from files, so that a run goes on as if it had never stopped."""

from __future__ import annotations

import csv
import math
import re
from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from fer_edge.errors import InputError
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.network import HEAD, every_layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge_train.recipe import Schedule

BEST: Final = "best.keras"


def scores(logs: dict[str, Any] | None) -> dict[str, float]:
    """Loss and scores of the first head, in training and (``val_``) on what is held out."""
    logs = logs or {}
    found = {}
    for part in ("", "val_"):
        for score in ("loss", "accuracy", "average_precision", "recall"):
            value = logs.get(f"{part}{HEAD}_{score}", logs.get(f"{part}{score}"))
            if value is not None:
                found[f"{part}{score}"] = float(value)
    return found


class History(keras.callbacks.Callback):
    """One CSV row an epoch; when resuming, rows of epochs that will be done again are dropped."""

    def __init__(self, path: Path, done: int) -> None:
        """Write to ``path``, of which the rows of the first ``done`` epochs are kept."""
        super().__init__()
        self._path = path
        self.rows: list[dict[str, float]] = []
        if done:
            with path.open(newline="", encoding="utf-8") as file:
                rows = ({key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file))
                self.rows = list(rows)[:done]

    def losses(self, first: int, end: int | None = None) -> list[float]:
        """The held-out losses of the epochs from ``first`` to before ``end``, counted from 0."""
        return [row["val_loss"] for row in self.rows[first:end]]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add a row; ends a run that diverged before its checkpoint is written: the one before is still good."""
        found = scores(logs)
        if not all(map(math.isfinite, found.values())):
            raise InputError(f"training diverged in epoch {epoch + 1}: lower optimizer.learning_rate in the recipe")
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({"epoch": epoch + 1, **found, "learning_rate": rate})
        with replacing(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            # Not every epoch has every score.
            writer = csv.DictWriter(file, list(dict.fromkeys(key for one in self.rows for key in one)))
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in self.rows)


class Average(keras.callbacks.Callback):
    """The mean of the weights at the ends of the last epochs, kept in a file of its own until the run is done.

    Attributes:
        weights: the mean so far, batch normalisation's statistics among them; None before the first of these epochs.
    """

    def __init__(self, folder: Path, epochs: int, last: int, done: int, every: int = 1) -> None:
        """Go on from what is in ``folder``, for the ``last`` of ``epochs``, of which ``done`` are done.

        It is saved where `Checkpoint` saves: after each ``every`` of the epochs, and after the last.
        """
        super().__init__()
        self._epochs, self._every = epochs, every
        # A short run must not end as a mean with the weights that it began with.
        self._folder, self._first = folder, epochs - min(last, max(epochs // 2, 1))
        self.weights: list[npt.NDArray[np.float32]] | None = None
        if done > self._first:
            with np.load(self._path(done), allow_pickle=False) as stored:
                self.weights = [stored[name] for name in stored.files]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Take the weights into the mean."""
        if epoch < self._first:
            return
        now = self.model.get_weights()
        share = 1 / (epoch + 1 - self._first)
        means = now if self.weights is None else self.weights
        self.weights = [mean + share * (weight - mean) for mean, weight in zip(means, now, strict=True)]
        if saved(epoch, self._every, self._epochs):
            with replacing(self._path(epoch + 1)) as temporary:
                np.savez(temporary, *self.weights)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"checkpoint-{epoch:04d}.npz"


class Checkpoint(keras.callbacks.Callback):
    """Save model and optimizer, with the epoch in the file's name."""

    def __init__(
        self, folder: Path, history: History, *, best_from: int | None = None, every: int = 1, epochs: int = 0
    ) -> None:
        """Save after each ``every`` of ``epochs``, and after the last.

        Args:
            folder: where.
            history: the scores so far.
            best_from: save also the model of the lowest held-out loss since this epoch.
            every: how many epochs a killed run may lose.
            epochs: how many there are.
        """
        super().__init__()
        self._folder, self._history, self._best_from = folder, history, best_from
        self._every, self._epochs = every, epochs

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Save, then take the older one away."""
        losses = [] if self._best_from is None else self._history.losses(self._best_from)
        if losses and losses[-1] == min(losses):
            with replacing(self._folder / BEST) as temporary:
                self.model.save(temporary)
        if not saved(epoch, self._every, self._epochs):
            return
        with replacing(self._folder / f"checkpoint-{epoch + 1:04d}.keras") as temporary:
            self.model.save(temporary)
        for path in self._folder.glob("checkpoint-*"):
            if path.stem < f"checkpoint-{epoch + 1:04d}":
                path.unlink()


def saved(epoch: int, every: int, epochs: int) -> bool:
    """Whether a run of ``epochs`` that saves after each ``every`` of them does so after an epoch, counted from 0."""
    return (epoch + 1) % every == 0 or epoch + 1 == epochs


def checkpoints(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder by how many epochs were done."""
    found = ((re.fullmatch(r"checkpoint-(\d+)\.keras", path.name), path) for path in folder.glob("checkpoint-*.keras"))
    return {int(match[1]): path for match, path in found if match}


class Plateau(keras.callbacks.Callback):
    """Reduce the learning rate when the held-out loss has not fallen for a while."""

    def __init__(self, schedule: Schedule, history: History, rate: float, first: int) -> None:
        """Start at ``rate`` in epoch ``first``."""
        super().__init__()
        self._schedule, self._history, self._rate, self._first = schedule, history, rate, first

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Set the rate that follows from the losses so far."""
        losses = self._history.losses(self._first, epoch)
        self.model.optimizer.learning_rate = self._rate * plateau_factor(losses, self._schedule)


def plateau_factor(losses: Sequence[float], schedule: Schedule) -> float:
    """What a plateau schedule has multiplied the rate by after epochs of such held-out losses."""
    factor, best, waited = 1.0, math.inf, 0
    for loss in losses:
        waited += 1
        if loss < best:
            best, waited = loss, 0
        elif waited >= schedule.plateau_epochs:
            factor, waited = factor * schedule.plateau_factor, 0
    return factor


class Seeds(keras.callbacks.Callback):
    """Have dropout follow from the recipe's seed and the epoch, so that a resumed run drops what it would have."""

    def __init__(self, seed: int) -> None:
        """Start from a recipe's seed."""
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Set the state of every generator in the model."""
        for number, generator in enumerate(_generators(self.model)):
            state = np.random.SeedSequence((self._seed, epoch, number)).generate_state(2)
            generator.state.assign(state.astype(keras.backend.standardize_dtype(generator.state.dtype)))


def _generators(model: keras.Model) -> Iterator[keras.random.SeedGenerator]:
    """The generators of a model's layers."""
    for layer in every_layer(model):
        if hasattr(layer, "seed_generator"):
            yield layer.seed_generator


class StopEarly(keras.callbacks.Callback):
    """End a run whose held-out loss has not fallen for ``schedule.stop_epochs`` epochs."""

    def __init__(self, schedule: Schedule, history: History, first: int) -> None:
        """Watch ``history`` from epoch ``first`` on."""
        super().__init__()
        self._schedule, self._history, self._first = schedule, history, first

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Say so to Keras when it is time."""
        if stopped(self._history, self._schedule, self._first):
            self.model.stop_training = True


def stopped(history: History, schedule: Schedule, first: int) -> bool:
    """Whether a run of this history has stopped early, in the stage from epoch ``first`` on that the model is for."""
    losses = history.losses(first)
    return 0 < schedule.stop_epochs <= len(losses) - 1 - (losses.index(min(losses)) if losses else 0)
