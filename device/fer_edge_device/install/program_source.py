"""Sources from which the service's program is installed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from fer_edge.errors import InputError

DISTRIBUTION: Final = "fer-edge"
_EXTRAS: Final = "[device]"


@dataclass(frozen=True)
class ProgramSource:
    """A wheel, a source folder or a release of fer-edge.

    Attributes:
        requirement: a path, or name and version.
        sha256: the hash of a wheel; otherwise None.
    """

    requirement: str
    sha256: str | None = None

    def for_pip(self) -> str:
        """Return the argument for pip. It contains a wheel's hash, which pip before 23.1 would not record otherwise."""
        if self.sha256 is None:
            return self.requirement + _EXTRAS
        return f"{DISTRIBUTION}{_EXTRAS} @ {Path(self.requirement).as_uri()}#sha256={self.sha256}"


def program_source(path: Path) -> ProgramSource:
    """Return the source at a path: a wheel, or a folder with the source code.

    Raises:
        InputError: it is neither.
    """
    if path.suffix == ".whl" and path.is_file():
        return ProgramSource(str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest())
    if (path / "pyproject.toml").is_file():
        return ProgramSource(str(path.resolve()))
    raise InputError(f"{path}: neither a wheel nor a folder with the source code of fer-edge")


def own_program_source() -> ProgramSource:
    """Return what the running program was installed from.

    Raises:
        InputError: the wheel or folder is gone, or was replaced.
    """
    distribution = importlib.metadata.distribution(DISTRIBUTION)
    recorded = distribution.read_text("direct_url.json")  # pip writes it for everything that is not from an index
    if recorded is None:
        return ProgramSource(f"{DISTRIBUTION}=={distribution.version}")
    record = json.loads(recorded)
    url = urlsplit(record["url"])
    path = Path(unquote(url.path))
    if url.scheme != "file" or not path.exists():
        raise InputError(f"this fer-edge was installed from {path}, which no longer exists; give --from WHEEL")
    source = program_source(path)
    # Another user may have replaced it, for example in /var/tmp.
    hashes = record.get("archive_info", {}).get("hashes", {})
    if "archive_info" in record and source.sha256 != hashes.get("sha256", source.sha256 or ""):
        raise InputError(f"this fer-edge was installed from {path}, which has changed since; give --from WHEEL")
    return source
