"""Paths of the service's parts on a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.install.host import Host

HOME: Final = "opt/fer-edge"
PACKAGE_HOME: Final = "usr/lib/fer-edge"
METADATA: Final = (
    "lib/python3*/site-packages/fer_edge-*.dist-info"  # of the program in a venv; its name has the version
)
COMMAND: Final = "usr/local/bin/fer-edge"
UNIT_FOLDER: Final = "etc/systemd/system"
CONFIG_FOLDER: Final = "etc/fer-edge"
SHIPPED_CONFIG: Final = "usr/share/fer-edge/config.toml"  # a copy of what the Debian package installs
TRUSTED_KEYS: Final = "etc/fer-edge/trusted-keys"
MODEL_FOLDER: Final = "etc/fer-edge/models"
PASSWORD: Final = "etc/credstore/fer-edge.mqtt-password"  # noqa: S105 - a path
STATE_FOLDER: Final = "var/lib"


def config_path(host: Host, instance: str | None) -> Path:
    """Return where the configuration of a camera lies."""
    return host.root / CONFIG_FOLDER / f"{instance or 'config'}.toml"


def state_folders(host: Host, *names: str) -> list[Path]:
    """Return the state folders of units; names may be patterns.

    The user of the service exists only while the service runs, so systemd keeps the folder under ``private`` and a
    link to it beside.
    """
    folder = host.root / STATE_FOLDER
    return [path for parent in (folder, folder / "private") for name in names for path in sorted(parent.glob(name))]
