"""A key pair of minisign, made and used by the real program."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from fer_edge_device.install.paths import TRUSTED_KEYS

if TYPE_CHECKING:
    from pathlib import Path


class Signer:
    """Someone who signs releases."""

    def __init__(self, path: Path) -> None:
        """Make a key pair; the path gets the endings ``.key`` and ``.pub``."""
        self.name = path.name
        self._secret, self._public = path.with_suffix(".key"), path.with_suffix(".pub")
        make = ("minisign", "-G", "-W", "-f", "-s", str(self._secret), "-p", str(self._public))
        subprocess.run(make, check=True, capture_output=True)

    def sign(self, path: Path) -> None:
        """Write a file's signature beside it."""
        subprocess.run(["minisign", "-S", "-s", self._secret, "-m", path], check=True, capture_output=True)  # noqa: S607

    def trust(self, root: Path) -> None:
        """Let a host trust this key."""
        folder = root / TRUSTED_KEYS
        folder.mkdir(parents=True, exist_ok=True)
        (folder / self._public.name).write_bytes(self._public.read_bytes())

    def distrust(self, root: Path) -> None:
        """Let a host no longer trust this key."""
        (root / TRUSTED_KEYS / self._public.name).unlink()
