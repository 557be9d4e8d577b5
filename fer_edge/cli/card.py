"""`fer-edge card`: change a model's card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.options import InputRange, Labels
from fer_edge.cli.output import say
from fer_edge.errors import InputError

app = typer.Typer(name="card")


@app.callback()
def card_root() -> None:
    """Change the card of a model; `fer-edge inspect` shows it.

    \b
    Example: fer-edge card set theirs.tflite --labels angry,happy,neutral --input-range 0..1
    """


@app.command("set")
def card_set(
    model: Annotated[Path, typer.Argument(help="A .tflite file of any origin.")],
    labels: Labels = None,
    input_range: InputRange = None,
) -> None:
    """Write into a .tflite file what the model takes and gives.

    \b
    Example: fer-edge card set theirs.tflite --labels angry,happy,neutral --input-range 0..1
    """
    from fer_edge.classification.card_edit import set_card
    from fer_edge.classification.label_list import parse_labels
    from fer_edge.modelcard.schema import INPUT_RANGES

    if labels is None and input_range is None:
        raise InputError("nothing to set: give --labels, --input-range or both; `fer-edge inspect` shows the card")
    names = parse_labels(labels) if labels else ()
    card = set_card(model, names, INPUT_RANGES[input_range] if input_range else None)
    spec = card.input
    say(f"{model}: {spec.width}x{spec.height}x{spec.channels}, real = pixel * {spec.scale:g} + {spec.offset:g}")
    say(f"labels {', '.join(card.labels)}")
