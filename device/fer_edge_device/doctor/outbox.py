"""Check the folder in which events wait for the broker."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Final

from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.host import service_units, user_name
from fer_edge_device.mqtt.outbox import outbox_path
from fer_edge_device.state_folder import SERVICE_STATE

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.config.settings import Config

_MIN_FREE: Final = 20e6  # bytes
_EVENT_BYTES: Final = 1000  # of one event on disk


def check_outbox(config: Config) -> Finding:
    """Check that the folder of the outbox is writable and has enough free space."""
    if not config.mqtt.url:
        return Finding("ok", "not needed without a broker")
    existing = folder = outbox_file(config, installed=bool(service_units())).parent
    try:
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"fer-edge")
            os.fsync(file.fileno())
    except OSError as error:
        if folder == SERVICE_STATE and os.geteuid():
            return Finding("ok", f"only the service and root may read {folder}; sudo shows more")
        return Finding(
            "failure",
            f"{existing}: {user_name()} cannot write there ({error.strerror})",
            "set outbox.path; `dmesg` shows whether a failing card has become read-only",
        )
    message = f"{existing}: {free / 1e6:,.0f} MB free"
    full = config.outbox.max_events * _EVENT_BYTES
    if free < _MIN_FREE:
        return Finding("failure", message, "free some space: `journalctl --vacuum-size=50M`, `apt clean`")
    if free < full:
        return Finding(
            "warning", f"{message}; a full outbox takes about {full / 1e6:,.0f} MB", "lower outbox.max_events"
        )
    return Finding("ok", message)


def outbox_file(config: Config, *, installed: bool) -> Path:
    """Return the file of the outbox, beside which the privacy switch is.

    Args:
        config: the service's configuration.
        installed: whether the service is installed.
    """
    if installed and not config.outbox.path:
        return SERVICE_STATE / "outbox.sqlite"
    return outbox_path(config.outbox, config.node_name()).absolute()
