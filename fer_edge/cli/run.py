"""`fer-edge run`: watch a camera, stream or video."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NoReturn

import typer

from fer_edge.cli.completion import complete_classifier, complete_detector
from fer_edge.cli.options import CLASSIFIER_HELP, Broker, ConfigFile, Node
from fer_edge.cli.output import INTERRUPTED, open_in_browser, say, version
from fer_edge.errors import InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config
    from fer_edge_device.runner import RunSummary

app = typer.Typer()

_IMAGES: Final = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


@app.command()
def run(
    config: ConfigFile = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="auto, picamera2, demo, N, /dev/videoN, rtsp://... or http://..., a video, or a folder of images."
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="Stop after this many seconds of the source's time.")
    ] = None,
    node: Node = None,
    broker: Broker = None,
    ha_discovery: Annotated[
        bool | None, typer.Option("--ha-discovery/--no-ha-discovery", help="Announce the device to Home Assistant.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help=CLASSIFIER_HELP, autocompletion=complete_classifier),
    ] = None,
    detector: Annotated[Literal["network", "yunet"] | None, typer.Option(help="Face detector.")] = None,
    detector_model: Annotated[
        str | None,
        typer.Option(
            help="The detector's file: a .tflite, or YuNet's ONNX; by default the shipped faces.",
            autocompletion=complete_detector,
        ),
    ] = None,
    min_face: Annotated[
        int | None, typer.Option(min=0, max=4096, help="Side of the smallest face to find, in pixels.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.99,
            help="Lowest score of a face; with the shipped detector, the expected share of such boxes that are faces.",
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, help="Threads of the classifier.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Width of a camera's frames in pixels, if the camera has it.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of a camera's frames in pixels, if the camera has it.")
    ] = None,
    realtime: Annotated[
        bool | None,
        typer.Option(
            "--realtime/--full-speed",
            help="Play a video at its own pace, or as fast as possible; by default only the demo plays in real time.",
        ),
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="Play a video again and again, until --seconds or Ctrl+C.")
    ] = False,
    web: Annotated[
        str | None,
        typer.Option(
            metavar="[HOST:]PORT", help="Serve a live page there; without a host, only this machine can open it."
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the live page in a browser, if there is a screen; needs --web.")
    ] = False,
    log_format: Annotated[
        Literal["auto", "plain", "json", "journal"] | None, typer.Option(help="Form of the log's lines.")
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None, typer.Option(help="Lowest level to log.")
    ] = None,
) -> None:
    """Watch a camera, stream or video and publish what happens.

    Prints one MQTT message per line as JSON, and sends the same to a broker if there is one. Options override
    FER_EDGE_... variables, which override the configuration; `fer-edge config` shows all keys.

    \b
    Example: fer-edge run --source /dev/video0 --node kitchen --mqtt mqtt://broker.local
    """
    from fer_edge_device.app import App
    from fer_edge_device.config.load import SYSTEM_CONFIG, holds_password, load_config
    from fer_edge_device.logging import set_up_logging, stderr_is_ready

    if source is not None and holds_password(source):
        raise InputError(
            "--source: do not give a password in the address, where every user can see it; write the address as"
            " camera.source into a file, and give that with --config"
        )
    if open_page and not web:
        raise InputError("--open: there is no page to open; add --web 8080")
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
        "faces.min_score": min_score,
        "web.listen": web,
        "log.format": log_format,
        "log.level": log_level,
    }

    def read() -> Config:
        return load_config(config, options=options)

    settings = read()
    set_up_logging(settings.log)
    # Without a file there is nothing to read again, and SIGHUP means that the terminal has gone.
    reread = read if config or SYSTEM_CONFIG.exists() else None
    app = App(
        settings, version=version(), realtime=realtime, loop=loop, is_trial=source is not None, read_config=reread
    )
    if open_page:
        open_in_browser(app.page_url)
    summary = app.run(seconds)
    if summary.restart:
        _restart()
    if stderr_is_ready():
        _print_summary(summary)
    if stderr_is_ready() and (hint := _hint(settings.camera.source, summary)):
        say(f"fer-edge: hint: {hint} use `fer-edge predict` or `fer-edge tag`", error=True)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


def _print_summary(summary: RunSummary) -> None:
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    print(
        f"{counted(summary.frames, 'frame')} in {summary.seconds:.1f} s ({rate:.1f} fps),"
        f" {counted(summary.events['new'], 'face')}\n"
        f"{counted(summary.events.total(), 'event')}: {summary.events['new']} new, {summary.events['update']} update,"
        f" {summary.events['end']} end",
        file=sys.stderr,
    )
    if summary.skipped or summary.dropped:
        print(
            f"{counted(summary.skipped, 'frame')} skipped because camera.fps and camera.idle_fps ask for fewer,"
            f" {summary.dropped} dropped while others were processed",
            file=sys.stderr,
        )
    if summary.queued:
        verb = "waits" if summary.queued == 1 else "wait"
        print(f"{counted(summary.queued, 'event')} {verb} for the broker in {summary.outbox}", file=sys.stderr)


def _restart() -> NoReturn:
    """Start this command again in the same process, for which systemd or a shell continues to wait."""
    # A library may have left a device open, and it would stay open.
    for entry in Path("/proc/self/fd").iterdir():
        if int(entry.name) > 2:
            with suppress(OSError):  # the one that listed them
                os.set_inheritable(int(entry.name), False)  # noqa: FBT003 - takes no keyword
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - our own command line


def _hint(source: str, summary: RunSummary) -> str:
    """Return why nothing was reported for images that are not frames of a video; empty if they may be frames."""
    if _is_image(source):
        return f"{source} is one image, too short for `run` to follow a face:"
    if source and Path(source).is_dir() and not summary.events:
        return (
            f"{source}: `run` plays the images of a folder as one video and reports only a face that stays in place;"
            " for photos,"
        )
    return ""


def _is_image(source: str) -> bool:
    return Path(source).suffix.lower() in _IMAGES and Path(source).is_file()
