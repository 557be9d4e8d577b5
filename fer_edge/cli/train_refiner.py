"""`fer-edge train-refiner`: train the second stage of a face detector."""

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
def train_refiner(
    data: Annotated[Path, typer.Argument(help="Folder with train/ and val/, as for train-faces.")],
    detector: Annotated[Path, typer.Option(help="The first stage: a detector's .tflite, or the shipped faces.")],
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")],
    recipe: FacesRecipeFile = None,
    settings: Settings = None,
    epochs: Epochs = None,
    split: Split = None,
    corrections: Corrections = None,
    weights: Annotated[Path | None, typer.Option(help="Start from this second stage's .keras.")] = None,
    paste: Paste = None,
    teacher: YuNetTeacher = None,
    resume: Resume = False,
) -> None:
    """Train a detector's second stage, which checks what the first stage takes for faces.

    \b
    Example: fer-edge train-refiner faces --detector faces.tflite --out runs/refiner
    """
    need_training()
    from fer_edge.model_zoo import find_model
    from fer_edge.modelcard.reader import read_card
    from fer_edge.modelcard.schema import DetectorCard, RefinerCard
    from fer_edge_train.recipe_files import load_refiner_recipe

    # Mistakes in these are reported before Keras is loaded.
    training_recipe = load_refiner_recipe(recipe or "refiner", recipe_changes(settings, epochs))
    detector = find_model(detector, "detector")
    check_keras_files([weights])
    cards = [read_card(detector, DetectorCard), *([read_card(weights, RefinerCard)] if weights else [])]
    made_by = commands_so_far([card.made_by for card in cards])
    parts = load_face_parts(data, split, corrections)
    with detector_training(out, training_recipe.schedule.epochs, resume=resume) as progress:
        from fer_edge_train.faces.refiner_training import train_refiner as run_training

        result = run_training(
            *parts,
            detector,
            training_recipe,
            out,
            teacher=teacher,
            weights=weights,
            pasted=load_training_faces(paste) if paste else None,
            resume=resume,
            made_by=made_by,
            on_progress=lambda done, total: progress.update_preparation(done, total, "scenes processed"),
            callbacks=[progress],
        )
    print_average_precision(result)
