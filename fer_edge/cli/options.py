"""What several commands share: their options, and how they load and print."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fer_edge.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.detection.base import TrackingDetector

FORMS: Final = "fer2013.csv, a folder with train/ and test/, or a zip or tar of either."
Votes = Annotated[Path | None, typer.Option(help="FER+'s fer2013new.csv: judge by the majority of its votes.")]
Model = Annotated[
    Path | None, typer.Option(help="A .tflite with a card, or edge or edge-plus, which are shipped; edge by default.")
]
Detector = Annotated[Literal["network", "yunet"], typer.Option(help="What finds faces.")]
DetectorModel = Annotated[
    Path | None,
    typer.Option(help="The detector's file: a .tflite of yours, or YuNet's ONNX; by default the one shipped."),
]
MinFace = Annotated[
    int | None,
    typer.Option(
        min=12, help="Side of the smallest face to find, in pixels; by default 1/16 of the image's longer side."
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the classifier.")]
LabelMap = Annotated[
    Path | None, typer.Option("--map", help="TOML file that says which label of which dataset becomes which.")
]
Usage = Annotated[str | None, typer.Option(help="Rows to test on; by default neither Training nor validation.")]
Labels = Annotated[
    str | None, typer.Option(help="Names of the outputs in order: angry,disgust,... or a file with one a line.")
]
InputRange = Annotated[
    Literal["0..1", "-1..1", "0..255"] | None, typer.Option(help="Values that pixels had in training.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IsFace = Annotated[bool, typer.Option("--face", help="The images are face crops already.")]
INTERRUPTED: Final = 130  # what a shell expects of a program that Ctrl-C ended


def need(extra: str, *modules: str) -> None:
    """Refuse to go on without these modules, and say which extra brings them."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(" and ".join(missing), extra)


def need_keras_backend() -> None:
    """Have Keras calculate with what is installed, unless it was told with what."""
    installed = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
    if not installed:
        raise InputError("Keras needs something to calculate with: pip install tensorflow, torch or jax")
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in installed:
        raise InputError(f"KERAS_BACKEND is {wanted}, which is not installed; there is {', '.join(installed)}")
    if "tensorflow" not in installed:
        os.environ.setdefault("KERAS_BACKEND", installed[0])


def load_classifier(model: Path | None, threads: int = 1) -> TFLiteClassifier:
    """A model by its path or shipped name; the shipped `edge` without."""
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.model_zoo import DEFAULT_MODEL, find_model

    return TFLiteClassifier(find_model(model) if model else DEFAULT_MODEL, threads)


def load_detector(name: Literal["network", "yunet"], model: Path | None, min_face: int | None) -> TrackingDetector:
    """What finds faces."""
    from fer_edge.detection.factory import make_detector

    return make_detector(name, model, min_face)


def command_line() -> str:
    """The command line that makes a model anew, for its card: as it was typed, less what only goes on with a run."""
    from fer_edge.errors import printable

    return printable(shlex.join(["fer-edge", *(word for word in sys.argv[1:] if word != "--resume")]))


def version() -> str:
    """Of the installed package."""
    import importlib.metadata

    return importlib.metadata.version("fer-edge")


def fields(value: object) -> dict[str, object]:
    """A structure as what JSON has."""
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(value)
    return fields


def print_json(value: object, indent: int | None = 2) -> None:
    """Print a structure, of whatever it holds, as JSON."""
    import json

    import msgspec

    # The standard library's encoder, because it takes names of files that are not UTF-8.
    print(json.dumps(msgspec.to_builtins(value), indent=indent))
