"""A live display of training for a terminal, one plain line an epoch for anything else."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING, Any, Self

import keras
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fer_edge.errors import MissingExtraError
from fer_edge_train.callbacks import scores

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


class TrainingProgress(keras.callbacks.Callback):
    """Keras callback and context manager that shows steps, time left and the last epoch's scores."""

    def __init__(self, console: Console, epochs: int) -> None:
        """Show on ``console`` the progress of a run of ``epochs``."""
        super().__init__()
        self._console, self._epochs = console, epochs
        self._tenths = 0
        self._steps = 0
        self._began = 0.0
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
        """Take the display away, also when training was interrupted: it had hidden the cursor."""
        self._bar.stop()

    def prepared(self, done: int, total: int, what: str) -> None:
        """Show how much of what training needs first is there."""
        if self._console.is_terminal:
            self._bar.update(self._task, total=total, completed=done, last=what)
        elif done * 10 // total > self._tenths:
            self._tenths = done * 10 // total
            self._console.print(f"{done}/{total} {what}", highlight=False)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Move to an epoch, also when resuming."""
        self._began = time.monotonic()
        self._steps = int(self.params["steps"])
        self._bar.update(self._task, total=self._epochs * self._steps, completed=epoch * self._steps, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Count a step."""
        self._bar.advance(self._task)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch's scores."""
        shown = " ".join(f"{name} {score:.4f}" for name, score in scores(logs).items() if name != "accuracy")
        if self._console.is_terminal:
            self._bar.update(self._task, last=shown)
        else:
            took = time.monotonic() - self._began
            self._console.print(f"epoch {epoch + 1}/{self._epochs} {shown} {took:.0f} s", highlight=False)


def tensorboard_callback(folder: Path) -> keras.callbacks.Callback:
    """Keras's callback that writes TensorBoard logs.

    Raises:
        MissingExtraError: TensorBoard, or TensorFlow, which writes them, is not there.
    """
    for module in ("tensorboard", "tensorflow"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(module, "tensorboard")
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)
