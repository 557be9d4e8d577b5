"""Check the permission to open cameras: the group ``video``."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.camera_devices import is_local
from fer_edge_device.doctor.host import service_units, user_name

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config
    from fer_edge_device.install.systemd_units import UnitState


def check_video_group(config: Config) -> Finding:
    """Check that the device files of cameras may be opened."""
    if not is_local(config.camera.source):
        return Finding("ok", "not needed for this source")
    devices = [*Path("/dev").glob("video*"), *Path("/dev").glob("media*")]
    if os.geteuid() == 0 or (devices and all(os.access(device, os.R_OK | os.W_OK) for device in devices)):
        return Finding("ok", f"{user_name()} may open cameras")
    try:
        video = grp.getgrnam("video")
    except KeyError:
        return Finding("ok", "this system has no such group")
    return group_finding(video, user_name(), os.getgroups(), service_units())


def group_finding(video: grp.struct_group, user: str, groups: list[int], units: list[UnitState]) -> Finding:
    """Return whether the groups of a user and of the services allow them to open cameras.

    Args:
        video: the group ``video``.
        user: the user's name.
        groups: the numbers of the groups of the user's processes.
        units: the installed units.
    """
    if video.gr_gid in groups:
        return Finding("ok", f"{user} is in the group video")
    outside = [unit.name for unit in units if "video" not in unit.groups]
    if units and not outside:
        return Finding("ok", f"the service is in the group video; {user} is not, which matters only to `fer-edge run`")
    if outside:
        return Finding(
            "failure",
            f"not in the group video: {', '.join(outside)}",
            "set SupplementaryGroups=video in [Service] with `sudo systemctl edit`, and restart",
        )
    if user in video.gr_mem:
        return Finding("failure", f"{user} is in the group video, but logged in before that", "log out and in again")
    return Finding("failure", f"{user} is not in the group video", f"sudo usermod -aG video {user}; log out and in")
