"""The service's virtual environments under ``/opt/fer-edge``.

Those of `installer` are numbered. The Debian package has its own under ``/usr/lib/fer-edge``: ``program``, and while an
upgrade has not succeeded, ``previous``.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, ServiceError
from fer_edge.utils.system import this_program
from fer_edge_device.install.paths import HOME, METADATA, PACKAGE_HOME, TRUSTED_KEYS
from fer_edge_device.install.program_source import DISTRIBUTION
from fer_edge_device.install.signatures import check_signature, requires_signatures
from fer_edge_device.install.transaction import Step, folder_step

if TYPE_CHECKING:
    from fer_edge_device.install.host import Host
    from fer_edge_device.install.program_source import ProgramSource

# Not the Python that runs this code, which may lie in a home folder that the service cannot see.
_PYTHON: Final = "usr/bin/python3"
PREVIOUS: Final = "previous"
_PROBE: Final = (
    "import importlib.util as u, sys; print(*sys.version_info[:2], *(u.find_spec(n) is not None"
    " for n in ('venv', 'ensurepip', 'picamera2')))"
)
_IMPORT: Final = "import fer_edge_device.config.settings"  # which needs a compiled package, too


class Venvs:
    """The venvs of a host: numbered folders, and the link ``current`` that the units use.

    Attributes:
        home: the folder of everything.
        link: the link ``current``.
        program: the command in the current venv.
    """

    def __init__(self, host: Host) -> None:
        """Change nothing yet."""
        self._host = host
        self.home = host.root / HOME
        self.link = self.home / "current"
        self.program = self.link / "bin/fer-edge"

    def current(self) -> Path | None:
        """Return the venv that the units use, or None."""
        return self.link.resolve() if self.link.is_dir() else None

    def is_packaged(self) -> bool:
        """Return whether the program came with the Debian package, whose scripts point ``current`` at it."""
        current = self.current()
        return current is not None and current.parent == (self._host.root / PACKAGE_HOME).resolve()

    def all(self) -> list[Path]:
        """Return all venvs, the oldest first."""
        numbered = [path for path in (self.home / "venvs").glob("*") if path.name.isdecimal()]
        return sorted(numbered, key=lambda path: int(path.name))

    def next_path(self) -> Path:
        """Return the path of the next venv."""
        last = int(self.all()[-1].name) if self.all() else 0
        return self.home / "venvs" / str(last + 1)

    def problem(self, venv: Path) -> str:
        """Return why the program of a venv does not run, as after an upgrade of the system; empty if it does."""
        try:
            self._host.run(str(venv / "bin/python"), "-IBc", _IMPORT)
        except ServiceError as error:
            return f"{venv} does not run ({error})"
        return ""

    def steps(self, path: Path, source: ProgramSource, reason: str = "") -> list[Step]:
        """Return the steps that create a venv and install the program in it.

        Args:
            path: the folder of the venv.
            source: where the program is installed from.
            reason: why a new venv is needed; empty if that is obvious.

        Raises:
            InputError: the system's Python cannot create it, which says what to install; or this host requires a
                signature that the source does not have.
        """
        _check_source_signature(self._host, source)
        python = self._host.root / _PYTHON
        with_system_packages = self._check_python(python)
        # Isolated (-I), so that a PYTHONPATH of the caller is not mistaken for what is installed.
        flags = ["--system-site-packages"] if with_system_packages else []
        create = (str(python), "-I", "-m", "venv", *flags, str(path))

        def do() -> None:
            self._host.run(*create)
            # Without a cache, which would stay in root's home folder.
            pip = (str(path / "bin/python"), "-I", "-m", "pip", "install", "--quiet", "--no-input", "--no-cache-dir")
            self._host.run(*pip, "--disable-pip-version-check", source.for_pip())
            # Without this, a power cut soon afterwards could leave empty files, and the units would use them.
            self._host.run("sync", "--file-system", str(path))

        description = (
            f"create {path} from {source.requirement}{', with the system packages' if with_system_packages else ''}"
            f" (a few minutes on a small Pi){', because ' if reason else ''}{reason}"
        )
        return [
            *folder_step(self.home),
            *folder_step(path.parent),
            Step(description, do, lambda: shutil.rmtree(path, ignore_errors=True)),
        ]

    def _check_python(self, python: Path) -> bool:
        """Check the system's Python, and return whether a venv needs the system's packages for picamera2."""
        try:
            output = self._host.run(str(python), "-I", "-c", _PROBE).split()
        except ServiceError as error:
            raise InputError(f"{python}: {error}; run: sudo apt install python3-venv") from error
        major, minor, *found = output
        if (int(major), int(minor)) < (3, 11):
            raise InputError(f"{python} is Python {major}.{minor}; fer-edge needs 3.11 or later (Debian 12 or later)")
        has_venv, has_pip, has_picamera2 = (word == "True" for word in found)
        if not (has_venv and has_pip):
            raise InputError(f"{python} cannot create virtual environments; run: sudo apt install python3-venv")
        current = self.current()
        return has_picamera2 or (current is not None and _sees_system_packages(current))

    def is_from(self, venv: Path, source: ProgramSource) -> bool:
        """Return whether a venv was installed from a source; always False for a folder with source code."""
        info = _metadata_folder(venv)
        recorded = info / "direct_url.json"
        if not recorded.exists():
            return source.requirement == f"{DISTRIBUTION}=={version_in(venv)}"
        archive = json.loads(recorded.read_text()).get("archive_info", {})
        sha256 = archive.get("hashes", {}).get("sha256") or archive.get("hash", "").removeprefix("sha256=")
        return source.sha256 is not None and source.sha256 == sha256


def _check_source_signature(host: Host, source: ProgramSource) -> None:
    if not requires_signatures(host):
        return
    if source.sha256 is None:
        raise InputError(
            f"{source.requirement}: not a signed wheel, and {host.root / TRUSTED_KEYS} has keys; give one with --from"
        )
    wheel = Path(source.requirement)
    content = wheel.read_bytes()
    if hashlib.sha256(content).hexdigest() != source.sha256:  # which pip will check, too
        raise InputError(f"{wheel}: was changed meanwhile")
    check_signature(host, wheel, content)


def version_in(venv: Path) -> str:
    """Return the version of the program in a venv."""
    return _metadata_folder(venv).name.removeprefix("fer_edge-").removesuffix(".dist-info")


def units_in(venv: Path) -> Path:
    """Return the folder of the unit files that belong to the program of a venv."""
    return _metadata_folder(venv).parent / "fer_edge_device" / "units"


def _metadata_folder(venv: Path) -> Path:
    found = list(venv.glob(METADATA))
    if len(found) != 1:
        raise ServiceError(f"{venv}: fer-edge is not installed there; run: sudo {this_program()} service upgrade")
    return found[0]


def _sees_system_packages(venv: Path) -> bool:
    settings = (venv / "pyvenv.cfg").read_text() if (venv / "pyvenv.cfg").exists() else ""
    return re.search(r"^include-system-site-packages *= *true", settings, re.MULTILINE) is not None
