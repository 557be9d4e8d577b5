"""Keras callbacks of a classifier's training.

All of them follow from the seed and the history, so that a resumed run continues as if it had not stopped.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fer_edge_train.network import iter_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fer_edge_train.history import History
    from fer_edge_train.recipe_sections import Schedule


class PlateauRate(keras.callbacks.Callback):
    """Reduces the learning rate when the held-out loss has stopped falling."""

    def __init__(self, schedule: Schedule, history: History, rate: float, first: int) -> None:
        """Start with ``rate`` in epoch ``first``."""
        super().__init__()
        self._schedule, self._history, self._rate, self._first = schedule, history, rate, first

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Set the rate that follows from the losses so far."""
        losses = self._history.losses(self._first, epoch)
        self.model.optimizer.learning_rate = self._rate * plateau_factor(losses, self._schedule)


def plateau_factor(losses: Sequence[float], schedule: Schedule) -> float:
    """Return the factor of a plateau schedule's learning rate after epochs with these held-out losses."""
    factor, best, waited = 1.0, math.inf, 0
    for loss in losses:
        waited += 1
        if loss < best:
            best, waited = loss, 0
        elif waited >= schedule.plateau_epochs:
            factor, waited = factor * schedule.plateau_factor, 0
    return factor


class EarlyStopping(keras.callbacks.Callback):
    """Ends a run when the held-out loss has not fallen for ``schedule.stop_epochs`` epochs."""

    def __init__(self, schedule: Schedule, history: History, first: int) -> None:
        """Store the schedule and the history, of which losses from epoch ``first`` on count."""
        super().__init__()
        self._schedule, self._history, self._first = schedule, history, first

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Stop training when it is time."""
        if has_stopped(self._history, self._schedule, self._first):
            self.model.stop_training = True


def has_stopped(history: History, schedule: Schedule, first: int) -> bool:
    """Return whether a run with this history stopped early, by its losses from epoch ``first`` on."""
    losses = history.losses(first)
    return 0 < schedule.stop_epochs <= len(losses) - 1 - (losses.index(min(losses)) if losses else 0)


class SeedDropout(keras.callbacks.Callback):
    """Seeds dropout by the recipe's seed and the epoch, so that a resumed run drops the same units."""

    def __init__(self, seed: int) -> None:
        """Take the recipe's seed."""
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Set the state of every random generator in the model."""
        for number, generator in enumerate(_generators(self.model)):
            state = np.random.SeedSequence((self._seed, epoch, number)).generate_state(2)
            generator.state.assign(state.astype(keras.backend.standardize_dtype(generator.state.dtype)))


def _generators(model: keras.Model) -> Iterator[keras.random.SeedGenerator]:
    for layer in iter_layers(model):
        if hasattr(layer, "seed_generator"):
            yield layer.seed_generator
