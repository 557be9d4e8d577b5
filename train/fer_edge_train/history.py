"""The scores of every epoch, kept in ``history.csv``."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

import keras

from fer_edge.errors import InputError
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.architectures.base import HEAD

if TYPE_CHECKING:
    from pathlib import Path


def select_scores(logs: dict[str, Any] | None) -> dict[str, float]:
    """Select from Keras's logs the loss and scores of the first head: in training, and (``val_``) in validation."""
    logs = logs or {}
    scores = {}
    for prefix in ("", "val_"):
        for name in ("loss", "accuracy", "average_precision", "recall"):
            value = logs.get(f"{prefix}{HEAD}_{name}", logs.get(f"{prefix}{name}"))
            if value is not None:
                scores[f"{prefix}{name}"] = float(value)
    return scores


class History(keras.callbacks.Callback):
    """Writes one CSV row for each epoch.

    Attributes:
        rows: the rows so far.
    """

    def __init__(self, path: Path, epochs_done: int) -> None:
        """Open a history.

        Args:
            path: the CSV file.
            epochs_done: how many rows of the file are kept. Later ones are of epochs that a resumed run repeats.
        """
        super().__init__()
        self._path = path
        self.rows: list[dict[str, float]] = []
        if epochs_done:
            with path.open(newline="", encoding="utf-8") as file:
                rows = ({key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file))
                self.rows = list(rows)[:epochs_done]

    def losses(self, first: int, end: int | None = None) -> list[float]:
        """Return the held-out losses of the epochs from ``first`` to before ``end``, counted from 0."""
        return [row["val_loss"] for row in self.rows[first:end]]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add a row.

        Raises:
            InputError: training diverged. The checkpoint of the epoch before is kept.
        """
        scores = select_scores(logs)
        if not all(map(math.isfinite, scores.values())):
            raise InputError(f"training diverged in epoch {epoch + 1}: lower optimizer.learning_rate in the recipe")
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({"epoch": epoch + 1, **scores, "learning_rate": rate})
        with replacing(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            # Some scores are not measured in every epoch.
            writer = csv.DictWriter(file, list(dict.fromkeys(key for one in self.rows for key in one)))
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in self.rows)
