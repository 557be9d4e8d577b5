"""`fer-edge web`: a page for your own images, and the token of the pages."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.loading import load_detector
from fer_edge.cli.options import ConfigFile, Detector, DetectorModel, MinFace, MinScore, Node
from fer_edge.cli.output import open_in_browser, say

app = typer.Typer(name="web")


@app.callback(invoke_without_command=True)
def web(
    ctx: typer.Context,
    listen: Annotated[
        str,
        typer.Option(
            metavar="[HOST:]PORT", help="Serve the page there; without a host, only this machine can open it."
        ),
    ] = "8000",
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="A .tflite with a card, or a shipped model; repeat it to compare. By default edge and edge-plus.",
            autocompletion=complete_classifier,
        ),
    ] = None,
    detector: Detector = "network",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
    min_score: MinScore = None,
    config: ConfigFile = None,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is a screen.")
    ] = True,
) -> None:
    """Try images, videos or the computer's camera on a page, and compare models on them.

    Nothing is kept, and nothing leaves this machine. For the live page of a device, see `fer-edge run --web`.

    \b
    Example: fer-edge web
    Example: fer-edge web --model edge --model mine.tflite
    Example: sudo fer-edge web token
    """
    if ctx.invoked_subcommand:
        return
    from fer_edge.detection.factory import detector_file
    from fer_edge.model_zoo import find_model
    from fer_edge.tagging.options import TagOptions
    from fer_edge.utils.native_stderr import hide_native_stderr
    from fer_edge.utils.signals import catch_end
    from fer_edge_device.config.load import load_config
    from fer_edge_device.web.start import serve_images_page

    load_detector(detector, detector_model, min_face, min_score)
    options = [
        TagOptions(
            model=str(find_model(each)),
            detector=detector,
            detector_model=str(detector_file(detector, detector_model)),
            min_face=min_face,
            min_score=min_score,
        )
        for each in model or (Path("edge"), Path("edge-plus"))
    ]
    settings = load_config(config or Path(os.devnull), options={"web.listen": listen})
    # A second Ctrl+C, or one that reaches the whole group of processes twice, does not interrupt the end.
    with catch_end() as wait, closing(serve_images_page(settings, options)) as page, hide_native_stderr():
        say(f"the page is at {page}; Ctrl+C ends it", error=True)
        if open_browser:
            open_in_browser(page.url)
        wait()


@app.command()
def token(config: ConfigFile = None, node: Node = None) -> None:
    """Show the token that opens the page of a node from other machines.

    \b
    Example: sudo fer-edge web token
    """
    from fer_edge_device.config.load import SYSTEM_CONFIG, load_config
    from fer_edge_device.web.start import show_token

    print(show_token(load_config(config, options={"node": node}), config or SYSTEM_CONFIG))
