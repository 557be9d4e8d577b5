"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from fer_edge.cli.completion import complete_classifier, complete_detector
from fer_edge.model_zoo import CLASSIFIERS

FORMS: Final = "fer2013.csv, a folder with train/ and test/, or a zip or tar of either."
Votes = Annotated[Path | None, typer.Option(help="FER+'s fer2013new.csv: the majority of its votes is the label.")]
CLASSIFIER_HELP: Final = f"A .tflite with a card, or the shipped {', '.join(CLASSIFIERS[:-1])} or {CLASSIFIERS[-1]}."
Model = Annotated[
    Path | None,
    typer.Option(
        help="A .tflite with a card, or the shipped edge (the default), edge-plus or large.",
        autocompletion=complete_classifier,
    ),
]
Detector = Annotated[Literal["network", "yunet"], typer.Option(help="Face detector.")]
DetectorModel = Annotated[
    Path | None,
    typer.Option(
        help="The detector's file: a .tflite, or YuNet's ONNX; by default the shipped faces.",
        autocompletion=complete_detector,
    ),
]
MinFace = Annotated[
    int | None,
    typer.Option(
        min=12,
        max=4096,
        help="Side of the smallest face to find, in pixels; by default 1/16 of the image's longer side.",
    ),
]
MinScore = Annotated[
    float | None,
    typer.Option(
        min=0.01,
        max=0.99,
        help="Lowest score of a face; with the shipped detector, the expected share of such boxes that are faces.",
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the classifier.")]
LabelMap = Annotated[
    Path | None,
    typer.Option(
        "--map",
        help="TOML file that maps the labels of each dataset; or raf-db, affectnet or expw, for folders that are named"
        " by their numbers.",
    ),
]
Usage = Annotated[
    str | None,
    typer.Option(help="Part to test on, such as PublicTest; by default what is neither Training nor validation."),
]
Labels = Annotated[
    str | None, typer.Option(help="Names of the outputs in order: angry,disgust,... or a file with one per line.")
]
InputRange = Annotated[
    Literal["0..1", "-1..1", "0..255", "per-image"] | None,
    typer.Option(help="Range of the pixel values in training; per-image if each image was standardized by itself."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IsFace = Annotated[bool, typer.Option("--face", help="The images are face crops: detect no faces.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the recipe, such as optimizer.batch_size=64; may be repeated."
    ),
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Number of epochs, instead of the recipe's.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last finished epoch.")]
FacesRecipeFile = Annotated[str | None, typer.Option(help="Name of a recipe, or a .toml file, instead of the default.")]
Split = Annotated[
    Path | None,
    typer.Option(help="Table with the columns file and part: images whose part is test are left out."),
]
Corrections = Annotated[
    Path | None,
    typer.Option(
        help="Table with the columns file, kind (face, none or ignore), x, y, w and h: corrected training labels."
    ),
]
Paste = Annotated[Path | None, typer.Option(help=f"More faces to paste into the images: {FORMS}")]
YuNetTeacher = Annotated[Path | None, typer.Option(help="YuNet's ONNX file, to learn from and to compare with.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; by default /etc/fer-edge/config.toml, if it exists.")
]
Node = Annotated[str | None, typer.Option(help="Name in the topics; by default the host name.")]
Broker = Annotated[str | None, typer.Option("--mqtt", help="Broker: mqtt://[user@]host[:port] or mqtts://...")]
