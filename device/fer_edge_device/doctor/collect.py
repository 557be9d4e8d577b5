"""Check whether crops of faces are kept."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from fer_edge.errors import printable
from fer_edge.utils.words import counted
from fer_edge_device.collect.folder import find_collect_folders
from fer_edge_device.components import check_collect
from fer_edge_device.config.load import SYSTEM_CONFIG
from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config

_DAY_S = 86_400


def check_collect_folder(config: Config) -> Finding:
    """Check whether crops of faces are collected, and how many there are."""
    settings = config.collect
    check_collect(settings)
    folder = find_collect_folders(settings, config.node_name(), SYSTEM_CONFIG)[0]
    where = printable(str(folder.path))
    try:
        times = folder.times()
    except OSError as error:
        if isinstance(error, PermissionError) and os.geteuid():
            state = "kept" if settings.enabled else "not kept"
            return Finding("ok", f"crops of faces are {state}; only the service and root may read {where}")
        return Finding("failure", f"{where}: cannot be read ({error.strerror})")
    oldest = f", the oldest of {(time.time() - times[0]) / _DAY_S:.1f} days ago" if times else ""
    if not settings.enabled:
        if times:
            return Finding(
                "warning",
                f"no crops of faces are kept any more, but {counted(len(times), 'crop')} are left in {where}{oldest}",
                "fer-edge collect delete",
            )
        return Finding("ok", "no crops of faces are kept")
    message = f"crops of faces are kept, encrypted, in {where}: {len(times)} of {settings.max_faces}{oldest}"
    if len(times) >= settings.max_faces:
        return Finding("warning", f"{message}; no more are added", "fer-edge collect pull --delete, on your computer")
    return Finding("ok", message)
