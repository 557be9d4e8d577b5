"""The wheels that a machine for arm64 installs: ours, later versions of it, and those of its dependencies."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[3]
LATER: Final = "999.0"
BROKEN: Final = "999.1"
# The Python and the C library of each Debian release.
PYTHON: Final = {12: "3.11", 13: "3.13"}
GLIBC: Final = {12: 36, 13: 41}
_PIP: Final = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")


def build_wheel(folder: Path, version: str | None = None, *, broken: bool = False) -> Path:
    """Build the wheel of the working tree, and return its path.

    Args:
        folder: where it is written.
        version: the version it gets; None keeps that of the project.
        broken: whether its ``run`` ends with status 1 before the first frame.
    """
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "source"
        listing = ("git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        names = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        if version is not None:
            project = copy / "pyproject.toml"
            own = tomllib.loads(project.read_text())["project"]["version"]
            project.write_text(project.read_text().replace(f'\nversion = "{own}"\n', f'\nversion = "{version}"\n'))
        if broken:
            (copy / "device/fer_edge_device/app.py").write_text("raise SystemExit(1)\n")
        built = Path(temporary) / "built"
        subprocess.run([*_PIP, "wheel", "--no-deps", "-w", built, copy], check=True)
        (wheel,) = built.glob("*.whl")
        return Path(shutil.move(wheel, folder / wheel.name))


def download_wheels(folder: Path, release: int) -> None:
    """Download what fer-edge needs on an arm64 Debian of a release."""
    download = [*_PIP, "download", "-d", str(folder), *for_arm64(PYTHON[release], GLIBC[release])]
    subprocess.run([*download, *requirements(PYTHON[release])], check=True)


def download_own_wheels(folder: Path, wheel: Path) -> None:
    """Download what a wheel of fer-edge needs on this machine."""
    subprocess.run([*_PIP, "download", "--only-binary=:all:", "-d", str(folder), f"{wheel}[device]"], check=True)


def requirements(python: str) -> list[str]:
    """Return the requirements of the extra ``device`` on arm64.

    pip evaluates markers for the Python that runs it, so those of another Python are selected here.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = {"platform_machine": "aarch64", "python_version": python, "python_full_version": f"{python}.0"}
    found = [*map(Requirement, project["dependencies"]), *_of_extra(project["optional-dependencies"], "device")]
    return [f"{each.name}{each.specifier}" for each in found if not each.marker or each.marker.evaluate(environment)]


def _of_extra(extras: dict[str, list[str]], extra: str) -> Iterator[Requirement]:
    """Yield the requirements of an extra, with those of the extras that it consists of."""
    for each in map(Requirement, extras[extra]):
        if each.name == "fer-edge":
            for inner in sorted(each.extras):
                yield from _of_extra(extras, inner)
        else:
            yield each


def for_arm64(python: str, glibc: int) -> list[str]:
    """Return the options with which pip takes wheels alone that run on arm64 with a version of Python and glibc 2.x."""
    tags = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(glibc, 4, -1)]
    return ["--only-binary=:all:", *tags, "--platform=manylinux2014_aarch64", f"--python-version={python}"]
