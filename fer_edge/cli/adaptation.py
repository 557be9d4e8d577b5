"""What `fer-edge train` does with a recipe that adapts a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fer_edge.cli.loading import load_datasets
from fer_edge.cli.output import commands_so_far, print_metrics, say, warn
from fer_edge.cli.training import check_keras_files
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.adaptation import AdaptationResult
    from fer_edge_train.recipe import Adaptation, Recipe
    from fer_edge_train.split import Split


class AdaptationOptions(NamedTuple):
    """The options of `fer-edge train` that an adaptation uses.

    Attributes:
        paths: faces of one's own, then those to rehearse on.
        out: folder of the run.
        weights: the model to adapt; None if it is not given.
        label_map: map for the labels of one's own faces.
        banks: files for the model's answers.
        resume: whether to continue a run.
        tensorboard: folder for TensorBoard's logs.
    """

    paths: list[Path]
    out: Path
    weights: Path | None
    label_map: Path | None
    banks: list[Path]
    resume: bool
    tensorboard: Path | None


def adapt_model(
    recipe: Recipe, adaptation: Adaptation, options: AdaptationOptions, describe: Callable[[Dataset, Split], None]
) -> None:
    """Adapt a model to faces of one's own, and print what it learnt.

    Args:
        recipe: how to train.
        adaptation: its section.
        options: what the user gave.
        describe: prints what the dataset is and how it is divided.
    """
    from fer_edge_train.start_models import find_start_model

    if options.weights is None:
        raise InputError("this recipe adapts a trained model; name it with --weights, such as --weights edge")
    if len(options.banks) > 1 or any(bank.suffix != ".npz" for bank in options.banks):
        raise InputError("--bank: this recipe keeps the answers of --weights in one file whose name ends in .npz")
    if options.banks and len(options.paths) == 1:
        raise InputError("--bank: answers without their faces; give these too, as in --data fer2013.csv")
    start = find_start_model(options.weights)
    check_keras_files([start])
    from fer_edge.utils.native_stderr import hide_native_stderr

    with hide_native_stderr():
        _adapt(recipe, adaptation, options, describe, start)


def _adapt(
    recipe: Recipe,
    adaptation: Adaptation,
    options: AdaptationOptions,
    describe: Callable[[Dataset, Split], None],
    start: Path,
) -> None:
    from rich.console import Console

    from fer_edge.datasets.class_folders import GROUP
    from fer_edge.datasets.dataset import fuse
    from fer_edge.datasets.manifest_groups import has_manifest
    from fer_edge_train.adaptation import adapt, check_start_model, take_own_labels
    from fer_edge_train.progress import TrainingProgress, tensorboard_callback
    from fer_edge_train.rehearsal import make_rehearsal
    from fer_edge_train.run_folder import RunFolder
    from fer_edge_train.split import split_own_faces

    RunFolder(options.out).check_can_start(resume=options.resume)
    card = check_start_model(start)
    side = card.input.height
    own_path, *others = options.paths
    columns = [GROUP] if has_manifest(own_path) else []
    (loaded,) = load_datasets([own_path], None, options.label_map, side, majority=False, columns=columns)
    own = take_own_labels(loaded, card.labels, adaptation, start)
    with show_work("looking for near-duplicates"):
        split = split_own_faces(own, recipe.data.validation, recipe.data.validation_seed, own.columns.get(GROUP))
    describe(own, split)
    rehearsal = None
    if others:
        data = fuse(load_datasets(others, None, None, side, majority=False))
        bank = options.banks[0] if options.banks else options.out / "bank.npz"
        rehearsal = make_rehearsal(
            data,
            recipe,
            adaptation,
            start=start,
            labels=card.labels,
            bank=bank,
            on_view=lambda done: say(
                f"  {card.name} has answered for {done} of {recipe.target.views} views of the faces to rehearse on",
                error=True,
            ),
        )
        say(f"{data.name}: {counted(len(rehearsal.faces), 'face')} to rehearse on", error=True)
    else:
        warn(
            "no faces to rehearse on, so the model will forget much of what it knew; add --data fer2013.csv, or any"
            " other faces of many people"
        )
    with TrainingProgress(Console(stderr=True), recipe.schedule.epochs) as progress:
        result = adapt(
            own,
            split,
            rehearsal,
            recipe,
            adaptation,
            start=start,
            out=options.out,
            name=f"{card.name.removesuffix('-adapted')}-adapted",
            resume=options.resume,
            made_by=commands_so_far([card.made_by]),
            callbacks=[progress, *([tensorboard_callback(options.tensorboard)] if options.tensorboard else [])],
        )
    _report(result, str(options.weights), own_path, options.out)


def _report(result: AdaptationResult, old: str, own: Path, out: Path) -> None:
    """Print what the model learnt, and how sure that is."""
    from fer_edge.classification.comparison import wilson_interval
    from fer_edge.classification.confusion_page import show_interval, show_verdict

    for name, metrics in ((old, result.before), (str(result.trained.model), result.trained.validation)):
        interval = show_interval(wilson_interval(metrics.accuracy, metrics.faces))
        say(
            f"{name}: {metrics.accuracy:.2%} of {counted(metrics.faces, 'held-out face')} right (95 % interval"
            f" {interval})"
        )
    say(show_verdict(result.change, "the adapted model", old))
    if result.same_answers is not None:
        say(f"it answers as before on {result.same_answers:.1%} of the faces of others that were watched")
    if result.trained.test:
        print_metrics(result.trained.test)
    say(
        "the held-out faces have chosen the epoch; prove it on others:"
        f" fer-edge convert {out / 'model.keras'} --int8 --data {own} -o new.tflite, and fer-edge evaluate {old}"
        f" new.tflite {own}"
    )
