"""The commands of a device: run."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fer_edge.cli.options import (
    INTERRUPTED,
    Detector,
    DetectorModel,
    MinFace,
    Model,
    Threads,
    load_classifier,
    load_detector,
    version,
)

app = typer.Typer()


@app.command()
def run(
    source: Annotated[
        str, typer.Option(help="auto, picamera2, demo, N, /dev/videoN, rtsp://..., a film or a folder of pictures.")
    ] = "auto",
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this much of the source's time.")] = None,
    node: Annotated[str | None, typer.Option(help="Name in the topics; the host's by default.")] = None,
    model: Model = None,
    detector: Detector = "haar",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
    threads: Threads = 1,
    width: Annotated[int, typer.Option(min=64, help="Wanted columns of a camera's frames.")] = 640,
    height: Annotated[int, typer.Option(min=64, help="Wanted rows of a camera's frames.")] = 480,
    realtime: Annotated[
        bool | None,
        typer.Option("--realtime/--full-speed", help="Pace of a film; the demo plays in real time, others do not."),
    ] = None,
) -> None:
    """Watch a source and print what happens.

    One MQTT-ready JSON message a line.

    \b
    Example: fer-edge run --source /dev/video0 --node kitchen
    """
    from fer_edge_device.app import run_source

    summary = run_source(
        source,
        classifier=load_classifier(model, threads),
        detector=load_detector(detector, detector_model, min_face),
        node=node,
        seconds=seconds,
        size=(width, height),
        realtime=realtime,
        version=version(),
    )
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    print(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({rate:.1f} fps), {summary.events['new']} faces\n"
        f"{summary.events.total()} events: {summary.events['new']} new, {summary.events['update']} update,"
        f" {summary.events['end']} end",
        file=sys.stderr,
    )
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
