"""Check the configured source of frames."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import FerEdgeError, SourceLostError
from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.camera_devices import (
    camera_users,
    device_path,
    is_local,
    open_files_of_service,
    uses_camera,
)
from fer_edge_device.doctor.host import service_units
from fer_edge_device.doctor.outbox import outbox_file
from fer_edge_device.privacy_switch import PrivacySwitch

if TYPE_CHECKING:
    from fer_edge_device.capture.base import Frame, FrameSource
    from fer_edge_device.config.settings import Config

FIRST_FRAME_TIMEOUT: Final = 15.0  # seconds


def check_camera(config: Config) -> Finding:
    """Check that the source opens and gives a frame."""
    source = config.camera.source
    local = is_local(source)
    device = device_path(source)
    if local and (device is None or Path(device).exists()) and (finding := _used_by_service(device)):
        return finding
    if (local or "://" in source) and _is_switched_off(config):
        return Finding("ok", "the node is switched off, so its camera was not opened")
    from fer_edge_device.capture.factory import open_source  # noqa: PLC0415 - heavy

    start = time.monotonic()
    try:
        camera = open_source(config.camera)
        try:
            frame = _first_frame(camera, start + FIRST_FRAME_TIMEOUT)
        finally:
            camera.close()
    except FerEdgeError as error:
        users = camera_users(device) if local else []
        return Finding("failure", str(error), f"stop what uses it: {', '.join(users)}" if users else "")
    rows, columns = frame.gray.shape
    message = f"gives {columns}x{rows} frames, the first after {time.monotonic() - start:.1f} s"
    if frame.gray.max() - frame.gray.min() < 8:
        return Finding("warning", f"{message}, but of a single grey", "is the lens covered, or the room dark?")
    return Finding("ok", message)


def _is_switched_off(config: Config) -> bool:
    """Return whether the privacy switch is off, as far as this user may see it.

    Only a node with a broker or a page has a switch.
    """
    switch = PrivacySwitch(outbox_file(config, installed=bool(service_units())))
    has_switch = bool(config.mqtt.url or config.web.listen)
    return has_switch and os.access(switch.path.parent, os.X_OK) and not switch.on


def _used_by_service(device: str | None) -> Finding | None:
    """Return a finding if a running unit has the camera open; two processes cannot read one camera."""
    for unit in service_units():
        files = open_files_of_service(unit.pid) if unit.active == "active" else set()
        if files is None:
            return Finding("warning", f"{unit.name} is running and may use the camera", "sudo shows whether it does")
        if uses_camera(files, device):
            return Finding("ok", f"{unit.name} is running and uses it; its watchdog notices when frames stop")
    return None


def _first_frame(camera: FrameSource, deadline: float) -> Frame:
    from fer_edge_device.capture.base import NoFrameYet  # noqa: PLC0415 - heavy

    while time.monotonic() < deadline:
        with suppress(NoFrameYet):
            if (frame := camera.read()) is not None:
                return frame
            raise SourceLostError("the source ended before its first frame")
    raise SourceLostError(
        f"opens, but gave no frame within {FIRST_FRAME_TIMEOUT:.0f} s; check cable and power, or lower camera.width"
    )
