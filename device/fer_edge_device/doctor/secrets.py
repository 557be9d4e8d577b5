"""Check who can read the files with passwords and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge_device.config.load import SYSTEM_CONFIG
from fer_edge_device.config.secret_files import open_secrets
from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config


def check_secrets(config: Config) -> Finding:
    """Check that the files with passwords and keys are not readable by every user."""
    if found := open_secrets(config, SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None):
        return Finding("warning", "; ".join(found))
    return Finding("ok", "no file with a password is readable by every user")
