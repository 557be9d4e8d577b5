"""The service's own Python environments under ``/opt/fer-edge``, and what gets installed into them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from fer_edge.errors import InputError, ServiceError
from fer_edge.utils.system import this_program
from fer_edge_device.install.transaction import Step, folder_step

if TYPE_CHECKING:
    from fer_edge_device.install.systemd_units import Machine

HOME: Final = "opt/fer-edge"
_PYTHON: Final = "usr/bin/python3"  # not the one that runs this: the service sees no home folders
_DISTRIBUTION: Final = "fer-edge"
_EXTRAS: Final = "[device]"
_PROBE: Final = (
    "import importlib.util as u, sys; print(*sys.version_info[:2], *(u.find_spec(n) is not None"
    " for n in ('venv', 'ensurepip', 'picamera2')))"
)


_STARTS: Final = "import fer_edge_device.config.settings"  # which takes a compiled package, too


@dataclass(frozen=True)
class Origin:
    """Where the service's program comes from.

    Attributes:
        requirement: a path, or name and version.
        sha256: of the wheel, if it is one.
    """

    requirement: str
    sha256: str | None = None

    def for_pip(self) -> str:
        """What pip is told; of a wheel also the hash, which pip before 23.1 would not write down otherwise."""
        if self.sha256 is None:
            return self.requirement + _EXTRAS
        return f"{_DISTRIBUTION}{_EXTRAS} @ {Path(self.requirement).as_uri()}#sha256={self.sha256}"


def origin_at(path: Path) -> Origin:
    """A wheel, or a folder with the source.

    Raises:
        InputError: it is neither.
    """
    if path.suffix == ".whl" and path.is_file():
        return Origin(str(path.resolve()), hashlib.sha256(path.read_bytes()).hexdigest())
    if (path / "pyproject.toml").is_file():
        return Origin(str(path.resolve()))
    raise InputError(f"{path}: neither a wheel nor a folder with the source of fer-edge")


def own_origin() -> Origin:
    """What the program that runs now was installed from.

    Raises:
        InputError: that has gone, or is not what it was.
    """
    distribution = importlib.metadata.distribution(_DISTRIBUTION)
    recorded = distribution.read_text("direct_url.json")  # written by pip for all that comes from no index
    if recorded is None:
        return Origin(f"{_DISTRIBUTION}=={distribution.version}")
    source = json.loads(recorded)
    url = urlsplit(source["url"])
    path = Path(unquote(url.path))
    if url.scheme != "file" or not path.exists():
        raise InputError(f"this fer-edge was installed from {path}, which is not here any more; give --from WHEEL")
    origin = origin_at(path)
    # Others may have put something else where it was: in /var/tmp, say.
    hashes = source.get("archive_info", {}).get("hashes", {})
    if "archive_info" in source and origin.sha256 != hashes.get("sha256", origin.sha256 or ""):
        raise InputError(f"this fer-edge was installed from {path}, which is another file now; give --from WHEEL")
    return origin


class Venvs:
    """The environments of a machine: numbered folders, and the link ``current`` that the units follow."""

    def __init__(self, machine: Machine) -> None:
        """Look at a machine; nothing is changed."""
        self._machine = machine
        self.home = machine.root / HOME
        self.link = self.home / "current"
        self.program = self.link / "bin/fer-edge"

    def current(self) -> Path | None:
        """The environment that the units use."""
        return self.link.resolve() if self.link.is_dir() else None

    def all(self) -> list[Path]:
        """Every environment, the oldest first."""
        numbered = [path for path in (self.home / "venvs").glob("*") if path.name.isdecimal()]
        return sorted(numbered, key=lambda path: int(path.name))

    def next_path(self) -> Path:
        """Where the next one goes."""
        last = int(self.all()[-1].name) if self.all() else 0
        return self.home / "venvs" / str(last + 1)

    def trouble(self, venv: Path) -> str:
        """Why the program in an environment does not run, as after an upgrade of the system; empty where it does."""
        try:
            self._machine.run(str(venv / "bin/python"), "-IBc", _STARTS)
        except ServiceError as error:
            return f"{venv} does not run ({error})"
        return ""

    def steps(self, path: Path, origin: Origin, why: str = "") -> list[Step]:
        """Make an environment and install the program there.

        Args:
            path: where.
            origin: of the program.
            why: it is made, where that needs to be said.

        Raises:
            InputError: the system's Python cannot do it; says what to install.
        """
        python = self._machine.root / _PYTHON
        system_packages = self._check(python)
        # Isolated: a PYTHONPATH of the caller must not pass for what is installed.
        make = [str(python), "-I", "-m", "venv", *(["--system-site-packages"] if system_packages else []), str(path)]

        def do() -> None:
            self._machine.run(*make)
            # No cache: it would stay behind in root's home.
            pip = (str(path / "bin/python"), "-I", "-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir")
            self._machine.run(*pip, "--disable-pip-version-check", origin.for_pip())
            # Or a power cut soon after would leave empty files, to which the units' link then leads.
            self._machine.run("sync", "--file-system", str(path))

        what = f"make {path} from {origin.requirement}{', with the system packages' if system_packages else ''}"
        what += f" (a few minutes on a small Pi){', because ' if why else ''}{why}"
        return [
            *folder_step(self.home),
            *folder_step(path.parent),
            Step(what, do, lambda: shutil.rmtree(path, ignore_errors=True)),
        ]

    def _check(self, python: Path) -> bool:
        """Whether the environment must see the system's packages, which have picamera2."""
        try:
            said = self._machine.run(str(python), "-I", "-c", _PROBE).split()
        except ServiceError as error:
            raise InputError(f"{python}: {error}; run: sudo apt install python3-venv") from error
        major, minor, *found = said
        if (int(major), int(minor)) < (3, 11):
            raise InputError(f"{python} is Python {major}.{minor}; fer-edge needs 3.11 or later (Debian 12 or later)")
        has_venv, has_pip, has_picamera2 = (word == "True" for word in found)
        if not (has_venv and has_pip):
            raise InputError(f"{python} cannot make environments; run: sudo apt install python3-venv")
        current = self.current()
        return has_picamera2 or (current is not None and _sees_system_packages(current))

    def is_from(self, venv: Path, origin: Origin) -> bool:
        """Whether an environment has just what would be installed; never so for a folder of source."""
        info = _metadata_folder(venv)
        recorded = info / "direct_url.json"
        if not recorded.exists():
            return origin.requirement == f"{_DISTRIBUTION}=={version_in(venv)}"
        archive = json.loads(recorded.read_text()).get("archive_info", {})
        sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
        return origin.sha256 is not None and origin.sha256 == sha256


def version_in(venv: Path) -> str:
    """Version of the program in an environment."""
    return _metadata_folder(venv).name.removeprefix("fer_edge-").removesuffix(".dist-info")


def units_in(venv: Path) -> Path:
    """The folder of the units that belong to the program in an environment."""
    return _metadata_folder(venv).parent / "fer_edge_device" / "units"


def _metadata_folder(venv: Path) -> Path:
    found = list(venv.glob("lib/python3*/site-packages/fer_edge-*.dist-info"))
    if len(found) != 1:
        raise ServiceError(f"{venv}: fer-edge is not installed there; run: sudo {this_program()} service upgrade")
    return found[0]


def _sees_system_packages(venv: Path) -> bool:
    settings = (venv / "pyvenv.cfg").read_text() if (venv / "pyvenv.cfg").exists() else ""
    return re.search(r"^include-system-site-packages *= *true", settings, re.MULTILINE) is not None
