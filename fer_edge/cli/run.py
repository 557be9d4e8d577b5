"""`fer-edge run`: watch a camera, stream or video."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_edge.cli.options import Broker, ConfigFile, Node
from fer_edge.cli.output import INTERRUPTED, version
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config

app = typer.Typer()


@app.command()
def run(
    config: ConfigFile = None,
    source: Annotated[
        str | None, typer.Option(help="auto, picamera2, demo, N, /dev/videoN, rtsp://..., a video or a folder.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this much of the source's time.")] = None,
    node: Node = None,
    broker: Broker = None,
    ha_discovery: Annotated[
        bool | None, typer.Option("--ha-discovery/--no-ha-discovery", help="Announce the device to Home Assistant.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A .tflite with a card, or edge or edge-plus.")] = None,
    detector: Annotated[Literal["network", "yunet"] | None, typer.Option(help="What finds faces.")] = None,
    detector_model: Annotated[
        str | None,
        typer.Option(help="The detector's file: a .tflite of yours, or YuNet's ONNX; by default the one shipped."),
    ] = None,
    min_face: Annotated[int | None, typer.Option(help="Side of the smallest face to find, in pixels.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the classifier.")] = None,
    width: Annotated[int | None, typer.Option(help="Wanted columns of a camera's frames.")] = None,
    height: Annotated[int | None, typer.Option(help="Wanted rows of a camera's frames.")] = None,
    realtime: Annotated[
        bool | None,
        typer.Option("--realtime/--full-speed", help="Pace of a video; the demo plays in real time, others do not."),
    ] = None,
    log_format: Annotated[
        Literal["auto", "plain", "json", "journal"] | None, typer.Option(help="How lines of the log look.")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Least serious line of the log.")
    ] = None,
) -> None:
    """Watch a source and tell what happens.

    One MQTT-ready JSON message a line, and the same to a broker if there is one. What an option does not say, a
    FER_EDGE_... variable does, and then the configuration; `fer-edge config` shows all keys.

    \b
    Example: fer-edge run --source /dev/video0 --node kitchen --mqtt mqtt://broker.local
    """
    from fer_edge_device.app import App
    from fer_edge_device.config.load import SYSTEM_CONFIG, holds_password, load_config
    from fer_edge_device.logging import set_up_logging

    if source is not None and holds_password(source):
        raise InputError(
            "--source: no password in the address, everybody could see it; write it as camera.source into a file, and"
            " give that with --config"
        )
    options = {
        "camera.source": source,
        "camera.width": width,
        "camera.height": height,
        "node": node,
        "mqtt.url": broker,
        "mqtt.ha_discovery": ha_discovery,
        "model": model,
        "threads": threads,
        "faces.detector": detector,
        "faces.detector_model": detector_model,
        "faces.min_face": min_face,
        "log.format": log_format,
        "log.level": log_level,
    }

    def read() -> Config:
        return load_config(config, options=options)

    settings = read()
    set_up_logging(settings.log)
    # Without a file there is nothing to read anew, and SIGHUP means that the terminal has gone.
    reread = read if config or SYSTEM_CONFIG.exists() else None
    summary = App(settings, version=version(), realtime=realtime, read_config=reread).run(seconds)
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    print(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({rate:.1f} fps), {summary.events['new']} faces\n"
        f"{summary.events.total()} events: {summary.events['new']} new, {summary.events['update']} update,"
        f" {summary.events['end']} end",
        file=sys.stderr,
    )
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
