"""Files with secrets that every user of the machine can read."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge_device.config.load import holds_password

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config


def open_secrets(config: Config, config_file: Path | None = None) -> list[str]:
    """Return one line for each file with a secret that every user can read, and what to do.

    Args:
        config: the configuration, which names the files.
        config_file: its own file, which holds a secret if the address of the camera does; None if there is none.
    """
    files = {
        "the broker's password": config.mqtt.password_file,
        "the private key of mqtt.key_file": config.mqtt.key_file,
        "the token of the page": config.web.token_file,
        "the private key of web.key_file": config.web.key_file,
        "the camera's password": str(config_file) if config_file and holds_password(config.camera.source) else "",
    }
    return [
        f"{path}: every user of this machine can read {what}; run: chmod o= {path}"
        for what, path in files.items()
        if path and _is_readable_by_all(Path(path))
    ]


def _is_readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:  # whoever uses the file says so
        return False
