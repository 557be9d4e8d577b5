"""Facts about this machine that several checks need."""

from __future__ import annotations

import os
import pwd
from typing import TYPE_CHECKING

from fer_edge.errors import ServiceError
from fer_edge_device.install.host import Host
from fer_edge_device.install.systemd_units import installed_units

if TYPE_CHECKING:
    from fer_edge_device.install.systemd_units import UnitState


def service_units() -> list[UnitState]:
    """Return the installed units of fer-edge; empty where systemd does not run."""
    try:
        return installed_units(Host())
    except ServiceError:
        return []


def user_name() -> str:
    """Return the name of the user who runs the doctor."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
