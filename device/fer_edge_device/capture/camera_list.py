"""Which cameras there are, and what each can send."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fer_edge.errors import SourceError, first_line
from fer_edge.utils.native_stderr import native_stderr_hidden
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.picamera2 import find_modules
from fer_edge_device.capture.v4l2 import CameraMode

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera of this machine.

    Attributes:
        source: what to give to ``--source``.
        name: the camera's own.
        driver: what it is reached through.
        lasting_source: what to give instead, to mean this camera after it was plugged in again; None if there is none.
        modes: what it can send.
        auto: whether the source ``auto`` tries it first.
        trouble: what keeps it from being used or its modes from being told; None if nothing does.
    """

    source: str
    name: str
    driver: str
    lasting_source: str | None = None
    modes: tuple[CameraMode, ...] = ()
    auto: bool = False
    trouble: str | None = None


def list_cameras() -> list[FoundCamera]:
    """The camera modules and the video nodes that give images, in the order in which ``auto`` tries them.

    No image is taken.  A camera module that no other program uses is opened for a moment.
    """
    found = [*_modules(), *(_from_node(node) for node in v4l2.candidates())]
    return [replace(camera, auto=index == 0) for index, camera in enumerate(found)]


def format_cameras(cameras: list[FoundCamera]) -> str:
    """A list of cameras as text for people, without a line's end after the last."""
    lines = []
    for camera in cameras:
        mark = "  (auto tries this first)" if camera.auto else ""
        lines.append(f"{camera.source}  {camera.name} [{camera.driver}]{mark}")
        if camera.lasting_source:
            lines.append(f"  also {camera.lasting_source}")
        if camera.trouble:
            lines.append(f"  {camera.trouble}")
        lines += [f"  {_told_mode(mode)}" for mode in camera.modes]
    return "\n".join(lines)


def _modules() -> list[FoundCamera]:
    try:
        # libcamera tells in lines of its own what it finds.
        with native_stderr_hidden(), _picamera2_silent():
            return [_from_module(number, module) for number, module in enumerate(find_modules())]
    except SourceError:  # not a Pi, or one without picamera2: `doctor` tells
        return []


def _from_module(number: int, module: dict[str, Any]) -> FoundCamera:
    from picamera2 import Picamera2  # noqa: PLC0415 - comes from Raspberry Pi OS, not from PyPI

    modes: tuple[CameraMode, ...] = ()
    trouble = None
    try:
        camera = Picamera2(number)
        try:
            modes = tuple(
                CameraMode(str(mode["format"]), mode["size"][0], mode["size"][1], (mode["fps"],))
                for mode in camera.sensor_modes
                if "size" in mode
            )
        finally:
            camera.close()
    except Exception as error:  # noqa: BLE001 - RuntimeError for one in use
        trouble = f"its modes cannot be told ({first_line(error)}); is another program using it?"
    source = f"picamera2:{number}" if number else "picamera2"
    return FoundCamera(source, str(module.get("Model", "camera")), "picamera2", modes=modes, trouble=trouble)


def _from_node(node: v4l2.VideoNode) -> FoundCamera:
    return FoundCamera(
        node.path,
        node.card or "camera",
        node.driver or "unknown",
        lasting_source=node.lasting_path,
        modes=node.modes,
        trouble=f"cannot be opened: {node.trouble}" if node.trouble else None,
    )


def _told_mode(mode: CameraMode) -> str:
    least = f"{mode.least[0]}x{mode.least[1]} to " if mode.least else ""
    fps = ", ".join(f"{rate:g}" for rate in mode.fps)
    return f"{mode.format}  {least}{mode.width}x{mode.height}" + (f"  {fps} fps" if fps else "")


@contextlib.contextmanager
def _picamera2_silent() -> Iterator[None]:
    logger = logging.getLogger("picamera2")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
