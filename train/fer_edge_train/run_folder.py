"""The folder of a training run: what a classifier, a face detector and a refiner keep in it, and how they resume."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import keras
import msgspec
import tomli_w

from fer_edge.errors import InputError
from fer_edge.modelcard.archive import write_card
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.checkpoints import BestModel, Checkpoint, WeightAverage, find_checkpoints, load_checkpoint
from fer_edge_train.history import History

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fer_edge.modelcard.schema import AnyCard
    from fer_edge_train.recipe_sections import Schedule

logger = logging.getLogger(__name__)

_HISTORY: Final = "history.csv"
_RECIPE: Final = "recipe.toml"
_BEST: Final = "best.keras"
_MODEL: Final = "model.keras"


def fingerprint(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of everything that a run learns from, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a training run.

    Attributes:
        path: the folder, with ``recipe.toml``, ``history.csv``, the last checkpoint and, after training,
            ``model.keras``.
    """

    path: Path

    def check_can_start(self, *, resume: bool) -> None:
        """Refuse a folder that holds a run, unless that run is to be resumed.

        Raises:
            InputError: the folder holds a run.
        """
        if not resume and (find_checkpoints(self.path) or (self.path / _MODEL).exists()):
            raise InputError(f"{self.path}: holds a training run; add --resume to continue it, or choose another --out")

    def begin(self, recipe: msgspec.Struct, data_fingerprint: str, *, resume: bool) -> int:
        """Start or resume a run.

        Args:
            recipe: how to train.
            data_fingerprint: `fingerprint` of what the run learns from.
            resume: whether to continue from the checkpoint, if there is one.

        Returns:
            Number of epochs that are done.

        Raises:
            InputError: the run that is to be resumed had another recipe or other data.
        """
        tables = {name: value for name, value in msgspec.to_builtins(recipe).items() if value is not None}
        text = f"# SHA-256 of the training data: {data_fingerprint}\n{tomli_w.dumps(tables)}"
        file = self.path / _RECIPE
        found = find_checkpoints(self.path)
        if resume and found:
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                raise InputError(
                    f"{self.path}: this run has another recipe or other data; resume it with the same options"
                )
            return max(found)
        if resume:
            logger.warning("%s: no checkpoint to resume from, so training starts from the beginning", self.path)
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return 0

    def load_checkpoint(self, epochs_done: int) -> keras.Model | None:
        """Load the model and optimizer of a checkpoint; None if there is none after so many epochs.

        Raises:
            ModelError: the file is damaged.
        """
        path = find_checkpoints(self.path).get(epochs_done)
        return load_checkpoint(path) if path else None

    def record(self, schedule: Schedule, epochs_done: int, *, best_from: int = 0) -> RunRecord:
        """Continue history, checkpoints and averages.

        Args:
            schedule: which epochs are saved, averaged and compared.
            epochs_done: number of epochs that are done.
            best_from: first epoch that may be the best one, counted from 0.
        """
        history = History(self.path / _HISTORY, epochs_done)
        best = BestModel(self.path / _BEST, history, best_from) if schedule.keeps_best else None
        average = WeightAverage(self.path, schedule, epochs_done)
        return RunRecord(history, average, Checkpoint(self.path, schedule), best)

    def final_model(self, model: keras.Model, record: RunRecord) -> keras.Model:
        """Return what a run keeps: the best model, or ``model`` with the averaged weights or those of the last epoch.

        Args:
            model: after the last epoch; its weights are changed to the average, if the schedule wants one.
            record: of the run.
        """
        if record.best:
            return keras.models.load_model(self.path / _BEST, compile=False)
        if record.average.weights is not None:
            model.set_weights(record.average.weights)
        return model

    def save_model(self, model: keras.Model, card: AnyCard) -> Path:
        """Save the finished model with its card and return its path."""
        path = self.path / _MODEL
        with replacing(path) as temporary:
            model.save(temporary)
            write_card(temporary, card)
        return path


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Keras callbacks that record a run in its folder.

    Attributes:
        history: the scores of each epoch.
        average: the mean of the weights of the last epochs.
        checkpoint: what the run resumes from.
        best: the model of the best epoch; None if the schedule does not keep it.
    """

    history: History
    average: WeightAverage
    checkpoint: Checkpoint
    best: BestModel | None

    @property
    def callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks, in the order in which they must run."""
        return [self.history, self.average, *([self.best] if self.best else []), self.checkpoint]
