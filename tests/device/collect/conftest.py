from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.collect.encryption import Decryption, make_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge.tagging.selected_face import SelectedFace

WRITES = Path(__file__).parent / "writes"


@dataclass(frozen=True)
class Collecting:
    """A configuration that collects, its key, and its folder."""

    config: Path
    identity: Path
    public_key: str
    folder: Path

    def configure(self, source: str | Path = "demo", *, rest: str = "", **settings: object) -> Path:
        """Write the configuration; settings are added to those of the section collect."""
        values = {"enabled": True, "public_key": self.public_key, "path": str(self.folder), **settings}
        lines = [
            f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in values.items()
        ]
        text = "\n".join(lines).replace("'", '"')
        self.config.write_text(f'node = "test"\n[camera]\nsource = "{source}"\n[collect]\n{text}\n{rest}')
        return self.config

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*")) if self.folder.exists() else []

    def faces(self) -> list[SelectedFace]:
        decryption = Decryption(self.identity)
        return [decryption.decrypt(path.read_bytes(), path.name) for path in self.files()]


@pytest.fixture
def collecting(tmp_path: Path) -> Collecting:
    identity = tmp_path / "identity"
    return Collecting(tmp_path / "config.toml", identity, make_identity(identity), tmp_path / "state" / "collected")


@pytest.fixture
def record_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], set[str]]:
    """Record what programs create, change or delete from now on, and return a function that returns the paths."""
    record = tmp_path / "writes.txt"
    monkeypatch.setenv("RECORD_WRITES", str(record))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(WRITES), *filter(None, [os.environ.get("PYTHONPATH")])]))

    def recorded() -> set[str]:
        ignored = (str(record), "/dev/", "/proc/", "pipe:", sys.prefix)
        return {line for line in record.read_text().splitlines() if line and not line.startswith(ignored)}

    return recorded
