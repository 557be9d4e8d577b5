"""Where a node keeps its files: the service's state folder, or one of the user."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fer_edge.errors import InputError
from fer_edge_device.config.load import SYSTEM_CONFIG

_STATE: Final = Path("/var/lib")
SERVICE_STATE: Final = _STATE / "fer-edge"  # of the service without an instance


def state_file(name: str, user_name: str, key: str) -> Path:
    """Return the path of a file: in the service's state folder, else in the user's.

    Args:
        name: its name in the service's folder, which belongs to one node.
        user_name: its name in the user's folder, which all nodes share.
        key: the key of the configuration that names another path, for the error.

    Raises:
        InputError: the user has no home folder.
    """
    if folders := os.environ.get("STATE_DIRECTORY"):
        return Path(folders.split(":")[0], name)
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError as error:
        raise InputError(f"this user has no home folder for {name}; set {key}") from error
    return state / "fer-edge" / user_name


def trial_file(path: Path) -> Path:
    """Return the file that a trial uses: what a trial shows must not be mixed with what the node saw itself.

    Args:
        path: the node's own file.
    """
    return path.parent / "trials" / path.name


def find_state_file(name: str, user_name: str, key: str, config: Path) -> Path:
    """Return the path of a file for another command than `fer-edge run`.

    Args:
        name: as for `state_file`.
        user_name: likewise.
        key: likewise.
        config: the configuration's file; if it is one of the service's, so is the state folder.

    Raises:
        InputError: the user has no home folder.
    """
    if config.parent != SYSTEM_CONFIG.parent or not config.exists():
        return state_file(name, user_name, key)
    unit = "fer-edge" if config.name == SYSTEM_CONFIG.name else f"fer-edge@{config.stem}"
    return _STATE / unit / name
