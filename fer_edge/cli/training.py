"""Options and checks that the commands for training share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from fer_edge.cli.needs import need, need_keras_backend

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fer_edge_train.faces.detector_run import DetectorResult
    from fer_edge_train.progress import TrainingProgress


def need_training() -> None:
    """Refuse to continue without the packages that training needs; choose a backend for Keras.

    Raises:
        InputError: a package is not installed.
    """
    need("train", "keras", "sklearn", "matplotlib", "tomli_w")
    need_keras_backend()


def check_keras_files(paths: Iterable[Path | None]) -> None:
    """Check files that Keras will read, in another process; whoever reads them reports those that are missing.

    Raises:
        ModelError: one is damaged, or made to do harm.
    """
    from fer_edge_convert.formats.isolated import check_isolated

    for path in paths:
        if path and path.is_file():
            check_isolated(path)


def recipe_changes(settings: list[str] | None, epochs: int | None) -> list[str]:
    """Return what ``--set`` and ``--epochs`` change in a recipe, as ``key=value``."""
    return [*(settings or []), *([f"schedule.epochs={epochs}"] if epochs else [])]


@contextmanager
def detector_training(out: Path, epochs: int, *, resume: bool) -> Iterator[TrainingProgress]:
    """Check that a detector's training can begin in a folder, and show its progress until the context is left.

    Args:
        out: the folder.
        epochs: how many epochs the recipe has.
        resume: whether to continue the run in the folder.

    Raises:
        InputError: the folder holds a run that is not to be resumed.
    """
    from rich.console import Console

    from fer_edge.utils.native_stderr import hide_native_stderr

    with hide_native_stderr():
        from fer_edge_train.progress import TrainingProgress
        from fer_edge_train.run_folder import RunFolder

        RunFolder(out).check_can_start(resume=resume)
        with TrainingProgress(Console(stderr=True), epochs) as progress:
            yield progress


def print_average_precision(result: DetectorResult) -> None:
    """Print the model's path and its average precision."""
    print(
        f"{result.model}: average precision {result.matches.average_precision(20):.4f} on faces of 20 pixels and more"
    )
