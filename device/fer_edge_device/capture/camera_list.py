"""The cameras of this machine and their modes."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fer_edge.errors import SourceError
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.picamera2 import driver_reason, find_modules
from fer_edge_device.capture.v4l2 import CameraMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MODULES: Final = "picamera2"
_NODE_TIMEOUT: Final = 5.0  # seconds in which the kernel must describe a video node


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera of this machine.

    Attributes:
        source: the value for ``--source``.
        name: name of the camera.
        driver: name of its driver.
        stable_source: another value for ``--source``, which stays the same when the camera is plugged in again; None if
            there is none.
        modes: the formats, sizes and rates that it offers.
        auto: whether the source ``auto`` tries it first.
        problem: why it cannot be used, or why its modes are unknown; None without a problem.
    """

    source: str
    name: str
    driver: str
    stable_source: str | None = None
    modes: tuple[CameraMode, ...] = ()
    auto: bool = False
    problem: str | None = None


def list_cameras(
    skipped: Mapping[str, str], module_timeout: float, announce: Callable[[str, float], None]
) -> list[FoundCamera]:
    """Return the camera modules and the video nodes that give images, in the order in which ``auto`` tries them.

    No image is taken. Camera modules that no other program uses are opened for a moment.

    Args:
        skipped: drivers that hung before, by ``picamera2`` or the path of a node, with what happened; they are not
            queried again.
        module_timeout: seconds in which the camera modules must be listed.
        announce: called before each call of a driver, which may hang, with its name as in ``skipped`` and the time
            limit.
    """
    found = [FoundCamera(name, "camera", "unknown", problem=problem) for name, problem in skipped.items()]
    if _MODULES not in skipped:
        announce(_MODULES, module_timeout)
        found += _camera_modules()
    nodes = v4l2.camera_candidates(skipped, lambda path: announce(path, _NODE_TIMEOUT))
    found += [_from_node(node) for node in nodes]
    found.sort(key=lambda camera: camera.driver != "picamera2" and camera.source != _MODULES)
    return [replace(camera, auto=index == 0) for index, camera in enumerate(found)]


def format_cameras(cameras: list[FoundCamera]) -> str:
    """Return a list of cameras as text, without a newline at the end."""
    lines = []
    for camera in cameras:
        note = "  (auto tries this first)" if camera.auto else ""
        lines.append(f"{camera.source}  {camera.name} [{camera.driver}]{note}")
        if camera.stable_source:
            lines.append(f"  also {camera.stable_source}")
        if camera.problem:
            lines.append(f"  {camera.problem}")
        lines += [f"  {_format_mode(mode)}" for mode in camera.modes]
    return "\n".join(lines)


def _camera_modules() -> list[FoundCamera]:
    try:
        # libcamera prints what it finds.
        with hide_native_stderr(), _picamera2_silenced():
            return [_from_module(number, module) for number, module in enumerate(find_modules())]
    except SourceError:  # not a Pi, or picamera2 is missing: `doctor` reports that
        return []


def _from_module(number: int, module: dict[str, Any]) -> FoundCamera:
    from picamera2 import Picamera2  # noqa: PLC0415 - comes from Raspberry Pi OS, not from PyPI

    modes: tuple[CameraMode, ...] = ()
    problem = None
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
    except Exception as error:  # noqa: BLE001 - RuntimeError if it is in use
        problem = f"its modes cannot be read ({driver_reason(error)}); is another program using it?"
    source = f"picamera2:{number}" if number else "picamera2"
    return FoundCamera(source, str(module.get("Model", "camera")), "picamera2", modes=modes, problem=problem)


def _from_node(node: v4l2.VideoNode) -> FoundCamera:
    return FoundCamera(
        node.path,
        node.card or "camera",
        node.driver or "unknown",
        stable_source=node.stable_path,
        modes=node.modes,
        problem=f"cannot be opened: {node.problem}" if node.problem else None,
    )


def _format_mode(mode: CameraMode) -> str:
    smallest = f"{mode.min_size[0]}x{mode.min_size[1]} to " if mode.min_size else ""
    fps = ", ".join(f"{rate:g}" for rate in mode.fps)
    return f"{mode.format}  {smallest}{mode.width}x{mode.height}" + (f"  {fps} fps" if fps else "")


@contextlib.contextmanager
def _picamera2_silenced() -> Iterator[None]:
    logger = logging.getLogger("picamera2")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
