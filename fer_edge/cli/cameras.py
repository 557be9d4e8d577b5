"""`fer-edge cameras`: list the cameras of this machine."""

from __future__ import annotations

import typer

from fer_edge.cli.options import AsJson
from fer_edge.cli.output import print_json, say, warn

app = typer.Typer()


@app.command()
def cameras(as_json: AsJson = False) -> None:
    """List the cameras of this machine and what each can send.

    The exit status is 0 even if there is none.

    \b
    Example: fer-edge cameras --json
    """
    from fer_edge_device.capture.camera_list import format_cameras
    from fer_edge_device.capture.find_cameras import find_cameras

    found = find_cameras()
    if as_json:
        print_json(found)
    elif found:
        say(*format_cameras(found).splitlines())
    if not found:
        warn(
            "no camera found: connect one (a Pi's camera module needs the package python3-picamera2 too),"
            " or try fer-edge run --source demo"
        )
