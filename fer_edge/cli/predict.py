"""`fer-edge predict`: show faces and expressions of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.options import AsJson, Detector, DetectorModel, IsFace, MinFace, MinScore, Model
from fer_edge.cli.output import print_json, say
from fer_edge.errors import InputError

app = typer.Typer()


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Model = None,
    face: IsFace = False,
    save: Annotated[Path | None, typer.Option(help="Write the annotated image here.")] = None,
    as_json: AsJson = False,
    detector: Detector = "network",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
    min_score: MinScore = None,
) -> None:
    """Detect the faces in images and classify their expressions.

    \b
    Example: fer-edge predict photo.jpg --save annotated.png
    """
    from fer_edge.api import load
    from fer_edge.drawing import annotate
    from fer_edge.errors import DataError
    from fer_edge.utils.image_io import check_colour
    from fer_edge.utils.native_stderr import hide_native_stderr

    if save and len(images) > 1:
        raise InputError("--save takes one image; `fer-edge tag` is for many")
    if face:
        recognizer = load(model or "edge", detector=None)
    else:
        recognizer = load(
            model or "edge",
            detector=detector,
            detector_model=detector_model,
            min_face=min_face,
            min_score=min_score,
        )
    failed = False
    for image in images:
        try:
            with hide_native_stderr():  # what image libraries say of damaged images
                found = recognizer(check_colour(image) if save else image)
        except DataError as error:
            failed = True
            say(f"fer-edge: {error}", error=True)
            continue
        if save:
            annotate(image, found, save)
        if as_json:
            print_json({"path": str(image), "faces": list(found)}, indent=None)
            continue
        for one in found:
            x, y, width, height = (round(value) for value in one.box)
            others = ", ".join(f"{name} {score:.0%}" for name, score in one.scores.items() if name != one.emotion)
            told = f"{one.emotion} {one.score:.0%}"
            told = told if one.reliable else f"{one.shown_emotion}, perhaps {told},"
            say(f"{image}: {told} at {x},{y} {width}x{height} ({others})")
        if not found:
            say(f"{image}: no face found")
    if failed:
        raise typer.Exit(2)
