"""`fer-edge inspect`: show what is inside a .tflite file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.completion import complete_model
from fer_edge.cli.options import AsJson
from fer_edge.cli.output import print_json, say

if TYPE_CHECKING:
    from fer_edge.modelcard.schema import AnyCard

app = typer.Typer()


@app.command()
def inspect(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .tflite file, or the shipped edge, edge-plus, large or faces.", autocompletion=complete_model
        ),
    ],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with a drawing of the network.")] = None,
) -> None:
    """Show what is inside a .tflite file.

    \b
    Example: fer-edge inspect edge.tflite --html edge.html
    """
    from fer_edge.model_zoo import find_model
    from fer_edge.tflite.inspect import as_html, inspect_model
    from fer_edge.utils.atomic_file import check_suffix, replacing

    if html:
        check_suffix(html, "--html", ".html")
    found = inspect_model(find_model(model, "any"))
    if html:
        with replacing(html) as temporary:
            temporary.write_text(as_html(found), encoding="utf-8")
    if as_json:
        print_json(found)
        return
    say(f"{found.path}  {found.bytes / 1e3:.1f} kB  sha256 {found.sha256}")
    damaged = "" if found.intact else ", which is not what its card says: damaged"
    say(f"{'flatbuffer':<15}sha256 {found.flatbuffer_sha256}{damaged}")
    for name, tensor in (("input", found.input), *(("output", output) for output in found.outputs)):
        real = f", real = {tensor.scale:g} * (stored - {tensor.zero_point})" if tensor.scale else ""
        say(f"{name:<15}{tensor.dtype} {list(tensor.shape)}{real}")
    say(f"{'operators':<15}{', '.join(f'{name} x{count}' for name, count in found.operators.items())}")
    for i, layer in enumerate(found.layers, start=1):
        types = "/".join(dict.fromkeys(node.dtype.lower() for node in (*layer.inputs, *layer.outputs)))
        cost = f"{layer.multiply_adds / 1e6:8.2f} M {layer.constant_bytes / 1e3:8.1f} kB"
        shape = "x".join(map(str, layer.outputs[0].shape if layer.outputs else ()))
        say(f"  {i:>3}  {layer.kind:<22}{cost}  {shape:<16}{types}")
    say(f"{'multiply-adds':<15}{found.multiply_adds / 1e6:.1f} million")
    say(f"{'parameters':<15}{found.parameters}")
    say(f"{'activation':<15}{found.largest_activation_bytes / 1e3:.1f} kB, the largest")
    say(f"{'integer only':<15}{'yes' if found.integer_only else 'no'}")
    say(f"{'XNNPACK':<15}{found.delegation}")
    say(f"{'metadata':<15}{', '.join(found.metadata) or 'none'}")
    if second := found.refiner:
        damaged = "" if second.intact else "; not what its card says: damaged"
        say(
            f"{'second stage':<15}{second.input.dtype} {list(second.input.shape)}, {second.bytes / 1e3:.1f} kB,"
            f" {second.multiply_adds / 1e6:.1f} million multiply-adds a face, {second.parameters} parameters, integer"
            f" only: {'yes' if second.integer_only else 'no'}{damaged}"
        )
    if found.card_problem:
        say(f"{'card':<15}{found.card_problem}")
    elif found.card is None:
        say(f"{'card':<15}none: give it one with `fer-edge card set`, or convert it with `fer-edge convert`")
    else:
        _print_card(found.card)


def _print_card(card: AnyCard) -> None:
    from fer_edge.modelcard.schema import ClassifierCard, DetectorCard

    say(f"{'card':<15}{card.name}, schema {card.schema}, {card.task}")
    size = "any size x "
    if isinstance(card, ClassifierCard):
        say(f"{'labels':<15}{', '.join(card.labels)}")
        size = f"{card.input.width}x{card.input.height}x"
    elif isinstance(card, DetectorCard):
        if card.calibration:
            say(f"{'precision':<15}{card.min_score:.0%} expected of boxes that just reach the threshold")
        say(f"{'threshold':<15}{card.threshold:g}, for faces from {card.smallest_face:g} pixels of the input on")
    spec = card.input
    say(f"{'image':<15}{size}{spec.channels}, real = {spec.formula}")
    for name, score in card.scores.items():
        say(f"{'score':<15}{name}: {score:.4f}")
    say(f"{'data':<15}{card.data}")
    for made_by in card.made_by:
        say(f"{'made by':<15}{made_by}")
    say(f"{'licence':<15}{card.licence or 'not stated'}")
    say(f"{'note':<15}{card.note}")
