"""`fer-edge ensemble`: join trained classifiers to one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.completion import complete_trainable
from fer_edge.cli.loading import load_fused_dataset
from fer_edge.cli.options import FORMS, LabelMap
from fer_edge.cli.output import commands_so_far, print_metrics, say, warn
from fer_edge.cli.training import check_keras_files, need_training
from fer_edge.cli.waiting import show_work
from fer_edge.errors import DataError, InputError
from fer_edge.utils.words import counted

app = typer.Typer()


@app.command()
def ensemble(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="The .keras files of classifiers with the same labels and input; or edge or edge-plus.",
            autocompletion=complete_trainable,
        ),
    ],
    data: Annotated[list[Path], typer.Option("--data", metavar="PATH", help=f"What they learnt from: {FORMS}")],
    out: Annotated[Path, typer.Option(help="The .keras file to write.")],
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Show each of them the mirror image, too; it takes twice the time.")
    ] = False,
    share: Annotated[
        list[float] | None,
        typer.Option(
            min=0.001, help="Weight of a model, one for each in their order; by default fitted on held-out faces."
        ),
    ] = None,
    label_map: LabelMap = None,
) -> None:
    """Join trained classifiers to one model, which `fer-edge convert` takes as any other.

    Its scores are the weighted geometric mean of theirs. The weights, and a calibration, are fitted on the faces that
    `fer-edge train` holds out by default, unless a model has learnt them.

    \b
    Example: fer-edge ensemble runs/lite0/model.keras edge --data fer2013.csv --mirror --out large.keras
    """
    need_training()
    from fer_edge.datasets.readers import ensure_faces
    from fer_edge.utils.atomic_file import ensure_writable
    from fer_edge.utils.native_stderr import hide_native_stderr
    from fer_edge_train.start_models import find_start_model

    if len(models) == 1 and not mirror:
        raise InputError(f"{models[0]}: one model is no ensemble; give more of them, or --mirror")
    if share and len(share) != len(models):
        raise InputError(
            f"--share: {counted(len(share), 'weight')} for {counted(len(models), 'model')}; give one for each"
        )
    if out.suffix != ".keras":
        raise InputError(f"{out}: a Keras model ends in .keras; choose such a name")
    paths = [find_start_model(model) for model in models]
    if out.resolve() in [path.resolve() for path in paths]:
        raise InputError(f"{out}: is one of the models; choose another name")
    for path in data:
        ensure_faces(path)
    ensure_writable(out)
    check_keras_files(paths)
    with hide_native_stderr():
        from fer_edge.modelcard.reader import read_card
        from fer_edge.modelcard.schema import ClassifierCard
        from fer_edge_train.ensemble import check_members, join
        from fer_edge_train.recipe import Data
        from fer_edge_train.split import split_dataset

        card, defaults = check_members(paths), Data()
        dataset = load_fused_dataset(data, None, label_map, card.input.height, majority=False)
        if missing := [label for label in card.labels if label not in dataset.labels]:
            raise DataError(
                f"{dataset.name}: no faces of {', '.join(missing)}, which the models know; add data that has them"
            )
        dataset = dataset.with_labels(card.labels)
        with show_work("looking for near-duplicates"):
            split = split_dataset(dataset, defaults.validation, defaults.validation_seed, batch_size=1)
        with show_work("joining, and asking the members for held-out and test faces"):
            result = join(
                paths,
                dataset,
                split,
                out,
                mirror=mirror,
                shares=share or (),
                made_by=commands_so_far(read_card(path, ClassifierCard).made_by for path in paths),
            )
    for path, right in result.learnt.items():
        warn(
            f"{path}: right on {right:.1%} of the held-out faces, far more than its card says, so it has learnt some of"
            " them; nothing is fitted on them: weights are "
            + ("those of --share" if share else "equal (--share sets others)")
            + ", and the scores keep the models' own calibrations"
        )
    weights = ", ".join(f"{path} {weight:.2f}" for path, weight in zip(models, result.weights, strict=True))
    say(f"{out}: {weights}")
    say(f"{result.validation.accuracy:.2%} of {counted(result.validation.faces, 'held-out face')} right")
    if result.test:
        print_metrics(result.test)
