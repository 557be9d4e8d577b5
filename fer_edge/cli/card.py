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
    licence: Annotated[str | None, typer.Option(help="Terms of use, such as MIT; of a model with a card.")] = None,
) -> None:
    """Write into a .tflite file what the model takes and gives, and its licence.

    \b
    Example: fer-edge card set theirs.tflite --labels angry,happy,neutral --input-range 0..1
    """
    from fer_edge.classification.card_edit import set_card
    from fer_edge.classification.label_list import parse_labels
    from fer_edge.modelcard.licence import set_licence
    from fer_edge.modelcard.schema import INPUT_RANGES

    if licence is not None:
        if labels is not None or input_range is not None:
            raise InputError("--licence is set alone; set the other values with a second command")
        set_licence(model, licence)
        say(f"{model}: licence {licence or 'not stated'}")
        return
    if labels is None and input_range is None:
        raise InputError("nothing to set: give --labels, --input-range or --licence; `fer-edge inspect` shows the card")
    names = parse_labels(labels) if labels else ()
    card = set_card(model, names, INPUT_RANGES[input_range] if input_range else None)
    spec = card.input
    say(f"{model}: {spec.width}x{spec.height}x{spec.channels}, real = {spec.formula}")
    say(f"labels {', '.join(card.labels)}")
