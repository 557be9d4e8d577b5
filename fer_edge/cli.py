"""The command line: every command imports its heavy parts only when it runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from fer_edge.errors import FerEdgeError, MissingExtraError

app = typer.Typer(
    name="fer-edge",
    help="Facial-expression recognition for a Raspberry Pi: train, convert, run, measure, tag.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def root() -> None:
    """Facial-expression recognition for a Raspberry Pi: train, convert, run, measure, tag."""


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="fer2013.csv, a folder with train/ and test/, or a zip of either.")],
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")],
    recipe: Annotated[str, typer.Option(help="A recipe's name, or a .toml file.")] = "edge",
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
    votes: Annotated[Path | None, typer.Option(help="FER+'s fer2013new.csv for the rows of DATA.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
) -> None:
    """Train a Keras CNN on labelled faces.

    Example: fer-edge train fer2013.csv --votes fer2013new.csv --out runs/edge
    """
    from rich.console import Console

    from fer_edge.datasets import load_dataset, load_votes

    console = Console(stderr=True)
    _need("keras", "Training needs Keras and TensorFlow, and one of them", "train")
    from fer_edge_train.progress import TrainingProgress
    from fer_edge_train.recipe import load_recipe
    from fer_edge_train.training import train as run_training
    import msgspec

    chosen = load_recipe(recipe)
    if epochs:
        chosen = msgspec.structs.replace(chosen, schedule=msgspec.structs.replace(chosen.schedule, epochs=epochs))
    dataset = load_dataset(data)
    result = run_training(
        dataset,
        chosen,
        Path(recipe).stem,
        out,
        votes=load_votes(votes, dataset) if votes else None,
        resume=resume,
        command=shlex.join(["fer-edge", *sys.argv[1:]]),
        callbacks=[TrainingProgress(console, chosen.schedule.epochs)],
    )
    print(result.model)
    print(f"held out {result.validation.accuracy:.4f}")
    if result.test: print(f"test {result.test.accuracy:.4f}")


def _need(module: str, what: str, extra: str) -> None:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(what, extra)


def main() -> None:
    try:
        app()
    except FerEdgeError as error:
        print(f"fer-edge: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
