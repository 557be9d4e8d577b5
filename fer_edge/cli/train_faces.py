"""`fer-edge train-faces`: train a face detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.loading import load_face_parts, load_training_faces
from fer_edge.cli.options import Corrections, Epochs, FacesRecipeFile, Paste, Resume, Settings, Split, YuNetTeacher
from fer_edge.cli.output import commands_so_far
from fer_edge.cli.training import (
    check_keras_files,
    detector_training,
    need_training,
    print_average_precision,
    recipe_changes,
)

app = typer.Typer()


@app.command()
def train_faces(
    data: Annotated[Path, typer.Argument(help="Folder with train/ and val/, each with labels.csv and its images.")],
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")],
    recipe: FacesRecipeFile = None,
    settings: Settings = None,
    epochs: Epochs = None,
    split: Split = None,
    corrections: Corrections = None,
    paste: Paste = None,
    weights: Annotated[Path | None, typer.Option(help="Start from this detector's .keras.")] = None,
    teacher: YuNetTeacher = None,
    resume: Resume = False,
) -> None:
    """Train a face detector on images with marked faces.

    \b
    Example: fer-edge train-faces faces --paste fer2013.csv --out runs/faces
    """
    need_training()
    from fer_edge.modelcard.reader import read_card
    from fer_edge.modelcard.schema import DetectorCard
    from fer_edge_train.recipe_files import load_detector_recipe

    # Mistakes in these are reported before Keras is loaded.
    training_recipe = load_detector_recipe(recipe or "faces", recipe_changes(settings, epochs))
    parts = load_face_parts(data, split, corrections)
    check_keras_files([weights])
    with detector_training(out, training_recipe.schedule.epochs, resume=resume) as progress:
        from fer_edge_train.faces.detector_training import train_detector

        result = train_detector(
            *parts,
            training_recipe,
            out,
            weights=weights,
            teacher=teacher,
            pasted=load_training_faces(paste) if paste else None,
            resume=resume,
            made_by=commands_so_far([read_card(weights, DetectorCard).made_by] if weights else []),
            callbacks=[progress],
        )
    print_average_precision(result)
