"""The commands of a device: run, mqtt."""



from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.options import (
    INTERRUPTED,
    AsJson,
    Detector,
    DetectorModel,
    MinFace,
    Model,
    Threads,
    load_classifier,
    load_detector,
    print_json,
    version,
)

app = typer.Typer()
mqtt = typer.Typer()
app.add_typer(mqtt, name="mqtt")


@app.command()
def run(
    config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None,
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

    if config is not None:
        from fer_edge_device.config import load_config
        from fer_edge_device.log import set_up_logging

        settings = load_config(config)
        set_up_logging(settings.log)
        source, node = settings.camera.source, node or settings.node_name()
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


@mqtt.callback()
def mqtt_root() -> None:
    """Look after what a broker keeps for a node.

    \b
    Example: fer-edge mqtt forget --mqtt mqtt://broker --node kitchen
    """


@mqtt.command()
def forget(
    config: Annotated[Path | None, typer.Option(help="Configuration file; by default the system's.")] = None,
    broker: Annotated[str | None, typer.Option("--mqtt", help="mqtt://[user@]host[:port] or mqtts://...")] = None,
    node: Annotated[str | None, typer.Option(help="Name in the topics; the host's by default.")] = None,
) -> None:
    """Take a node's retained messages from the broker and its device from Home Assistant.

    Stop the node's runner first: it would publish them again.

    \b
    Example: fer-edge mqtt forget --mqtt mqtt://broker --node kitchen
    """
    from fer_edge_device.config import load_config
    from fer_edge_device.messages import Topics
    from fer_edge_device.mqtt import forget_node

    settings = load_config(config, options={"mqtt.url": broker, "node": node})
    name = settings.node_name()
    reached = forget_node(settings.mqtt, Topics(name, settings.mqtt.prefix))
    print(f"{name} is forgotten at {reached}", file=sys.stderr)


@app.command()
def cameras(as_json: AsJson = False) -> None:
    """List the cameras of this machine and what each can send.

    Finding none is an answer, too: the exit status is 0.

    \b
    Example: fer-edge cameras
    """
    from fer_edge_device.camera_list import list_cameras, told

    found = list_cameras()
    if as_json:
        print_json(found)
    elif found:
        print(told(found))
    if not found:
        print(
            "fer-edge: no camera found: connect one (a Pi's camera module needs the package python3-picamera2 too),"
            " or try fer-edge run --source demo",
            file=sys.stderr,
        )
