"""The progress of training: a live display on a terminal, and elsewhere one plain line for each epoch."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any, Self

import keras
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fer_edge.errors import MissingExtraError
from fer_edge_train.history import select_scores

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


class TrainingProgress(keras.callbacks.Callback):
    """Keras callback and context manager that shows steps, the time left and the scores of the last epoch."""

    def __init__(self, console: Console, epochs: int) -> None:
        """Show a run of ``epochs`` on ``console``."""
        super().__init__()
        self._console, self._epochs = console, epochs
        self._tenths = 0
        self._steps = 0
        self._epoch_start = 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", epoch=1, last="")

    def __enter__(self) -> Self:
        """Show the display."""
        self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Remove the display, also after an interruption, because it hides the cursor."""
        self._bar.stop()

    def update_preparation(self, done: int, total: int, unit: str) -> None:
        """Show how much of the preparation is done: on a terminal as a bar, elsewhere a line for each tenth."""
        if self._console.is_terminal:
            self._bar.update(self._task, total=total, completed=done, last=unit)
        elif done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            self._console.print(f"{done}/{total} {unit}", highlight=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Move the bar to an epoch; in a resumed run, the first one is not 0."""
        self._epoch_start = time.monotonic()
        self._steps = int(self.params["steps"])
        self._bar.update(self._task, total=self._epochs * self._steps, completed=epoch * self._steps, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Count a step."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the scores of the epoch."""
        scores = " ".join(f"{name} {score:.4f}" for name, score in select_scores(logs).items() if name != "accuracy")
        if self._console.is_terminal:
            self._bar.update(self._task, last=scores)
        else:
            seconds = time.monotonic() - self._epoch_start
            self._console.print(f"epoch {epoch + 1}/{self._epochs} {scores} {seconds:.0f} s", highlight=False)


def tensorboard_callback(folder: Path) -> keras.callbacks.Callback:
    """Make Keras's callback that writes TensorBoard logs.

    Raises:
        MissingExtraError: TensorBoard, or TensorFlow, which writes the logs, is not installed.
    """
    for module in ("tensorboard", "tensorflow"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "tensorboard")
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)
