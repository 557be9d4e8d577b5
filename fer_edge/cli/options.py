"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

import typer

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
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")]
FacesRecipeFile = Annotated[str | None, typer.Option(help="A .toml file, instead of the recipe that is shipped.")]
Paste = Annotated[Path | None, typer.Option(help=f"More faces, to paste into images: {FORMS}")]
YuNetTeacher = Annotated[Path | None, typer.Option(help="YuNet's ONNX file, to learn from and compare with.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="TOML file; by default /etc/fer-edge/config.toml, if there is one.")
]
Node = Annotated[str | None, typer.Option(help="Name in the topics; the host's by default.")]
Broker = Annotated[str | None, typer.Option("--mqtt", help="Broker: mqtt://[user@]host[:port] or mqtts://...")]
