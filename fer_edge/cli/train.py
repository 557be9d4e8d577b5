"""`fer-edge train`: train a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.adaptation import AdaptationOptions, adapt_model
from fer_edge.cli.completion import complete_classifier_recipe
from fer_edge.cli.loading import load_fused_dataset
from fer_edge.cli.options import FORMS, Epochs, LabelMap, Resume, Settings
from fer_edge.cli.output import commands_so_far, print_metrics, say
from fer_edge.cli.training import check_keras_files, need_training, recipe_changes
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.split import Split

app = typer.Typer()


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help=FORMS)] = None,
    more: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            metavar="PATH",
            help="Another dataset to fuse with the first, or with the recipe adapt to rehearse on; may be repeated.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")] = ...,  # type: ignore[assignment]
    recipe: Annotated[
        str, typer.Option(help="Name of a recipe, or a .toml file.", autocompletion=complete_classifier_recipe)
    ] = "edge",
    settings: Settings = None,
    epochs: Epochs = None,
    votes: Annotated[Path | None, typer.Option(help="FER+'s fer2013new.csv, for the rows of the first CSV.")] = None,
    label_map: LabelMap = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Start from this .keras; for transfer learning, the weights file of its backbone; with the recipe"
            " adapt, also the name edge or edge-plus."
        ),
    ] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A .keras to learn from (distillation); may be repeated.")
    ] = None,
    bank: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="An .npz of teachers' answers to learn from; may be repeated for their mean. With --teacher: where"
            " to keep the answers, by default bank.npz in --out.",
        ),
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder to write TensorBoard logs to.")] = None,
    resume: Resume = False,
) -> None:
    """Train a Keras CNN on labelled faces, or adapt one to faces of your own.

    \b
    Example: fer-edge train fer2013.csv --votes fer2013new.csv --out runs/edge
    Example: fer-edge train own/ --recipe adapt --weights edge --data fer2013.csv --out runs/own
    """
    need_training()
    from fer_edge.utils.native_stderr import hide_native_stderr

    paths = [*([data] if data else []), *(more or [])]
    if not paths:
        raise InputError("no data to train on: give fer2013.csv, or --data for each dataset")
    # Mistakes in these are reported before Keras is loaded.
    from fer_edge.datasets.readers import ensure_faces
    from fer_edge_train.recipe_files import load_recipe

    training_recipe = load_recipe(recipe, recipe_changes(settings, epochs))
    for path in paths:
        ensure_faces(path)
    if training_recipe.adaptation:
        if teacher or votes:
            raise InputError("--teacher and --votes: the recipe adapt learns from the labels of the first data alone")
        options = AdaptationOptions(paths, out, weights, label_map, bank or [], resume, tensorboard)
        adapt_model(training_recipe, training_recipe.adaptation, options, _describe)
        return
    if weights and not weights.exists():
        raise InputError(f"{weights}: no such weights file; give a trained .keras, or the weights file of a backbone")
    # The .pth of a backbone is for another reader, which admits nothing but tensors.
    check_keras_files([*(teacher or []), weights if weights and weights.suffix != ".pth" else None])
    with hide_native_stderr():
        from rich.console import Console

        from fer_edge.modelcard.reader import read_card
        from fer_edge.modelcard.schema import ClassifierCard
        from fer_edge_train.hardware import resolve_precision
        from fer_edge_train.progress import TrainingProgress, tensorboard_callback
        from fer_edge_train.split import split_dataset
        from fer_edge_train.teacher_bank import check_bank_options, make_bank, read_banks
        from fer_edge_train.training import apply_labels, check_start
        from fer_edge_train.training import train as run_training

        check_start(training_recipe, out, with_teachers=bool(teacher or bank), resume=resume)
        check_bank_options(bank or [], with_teachers=bool(teacher))
        majority = training_recipe.target.protocol == "ferplus"
        dataset = apply_labels(
            load_fused_dataset(paths, votes, label_map, training_recipe.data.side, majority=majority), training_recipe
        )
        with show_work("looking for near-duplicates"):
            split = split_dataset(
                dataset,
                training_recipe.data.validation,
                training_recipe.data.validation_seed,
                training_recipe.optimizer.batch_size,
            )
        _describe(dataset, split)
        answers = None
        if teacher:
            views = training_recipe.target.views
            answers = make_bank(
                bank[0] if bank else out / "bank.npz",
                dataset,
                split,
                training_recipe,
                teacher,
                precision=resolve_precision(training_recipe.precision),
                on_view=lambda done: say(f"  teachers have answered for {done} of {views} views", error=True),
            )
        elif bank:
            answers = read_banks(bank, dataset)
        # The weights of a backbone have no card.
        start = [weights] if weights and not training_recipe.network.takes_backbone_weights else []
        with TrainingProgress(Console(stderr=True), training_recipe.schedule.epochs) as progress:
            result = run_training(
                dataset,
                split,
                training_recipe,
                Path(recipe).stem,
                out,
                weights=weights,
                bank=answers,
                resume=resume,
                made_by=commands_so_far(read_card(one, ClassifierCard).made_by for one in (*(teacher or []), *start)),
                callbacks=[progress, *([tensorboard_callback(tensorboard)] if tensorboard else [])],
            )
    say(
        f"{result.model}: {result.validation.accuracy:.2%} of {counted(result.validation.faces, 'held-out face')} right"
    )
    if result.test:
        print_metrics(result.test)


def _describe(dataset: Dataset, split: Split) -> None:
    """Print what was read, how it is divided, and how many faces are in both parts."""
    import numpy as np

    skipped = counted(len(dataset.skipped), "image")
    say(f"{dataset.name}: {counted(len(dataset), 'face')}, {skipped} skipped", error=True)
    for line in dataset.left_out:
        say(f"  left out: {line}", error=True)
    for name, rows in split.parts_by_name().items():
        counts = np.bincount(dataset.classes[rows], minlength=len(dataset.labels))
        each = ", ".join(f"{label} {count}" for label, count in zip(dataset.labels, counts, strict=True))
        duplicates = np.isin(rows, split.duplicates).sum()
        also = f"; {duplicates} of them near-duplicates of training faces" if duplicates else ""
        say(f"  {name}: {counts.sum()} ({each}){also}", error=True)
