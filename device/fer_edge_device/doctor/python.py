"""Check the version of Python."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING

from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config


def check_python(config: Config) -> Finding:
    """Check that the project is tested with this version of Python."""
    del config
    message = f"{platform.python_version()}, {sys.prefix}"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("warning", message, "fer-edge is tested with 3.11 to 3.13: create the venv with one of these")
    return Finding("ok", message)
