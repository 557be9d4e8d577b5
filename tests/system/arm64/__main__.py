"""Accept fer-edge on an emulated arm64 machine, and print a table: ``make acceptance-arm64``, ``make test-deb-arm64``.

    python -m tests.system.arm64 [--package] [--debian 13] [--out FILE] [--cache FOLDER] [--native]

Builds the wheels and a Debian for arm64 as root, boots it, and runs the steps of ``guest.py`` in it; with ``--package``
the Debian packages, and those of ``debian_package/steps.py``. The exit status is 1 if one of them did not pass.
``--native`` runs the same steps in a container of this machine: a few minutes.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.system.arm64 import container, guest, image, machine, package_guest, wheels
from tests.system.debian_package.packages import ARCHITECTURES, build_packages
from tests.system.debian_package.steps import PackageSteps

if TYPE_CHECKING:
    from collections.abc import Iterable

# What runs in the machine, which has nothing but the standard library.
_SCRIPTS: Final = (
    *(f"tests/system/arm64/{name}.py" for name in ("guest", "package_guest", "network_camera")),
    "tests/system/debian_package/steps.py",
)
_CACHE: Final = Path("/var/tmp/fer-edge-arm64")  # noqa: S108 - of root, and too large for a home folder
_TIMEOUT_S: Final = 4 * 3600.0


def main() -> int:
    """Run the steps and print their table; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="acceptance-arm64", description="Accept fer-edge on an emulated arm64 machine."
    )
    parser.add_argument("--package", action="store_true", help="the Debian package, in place of the wheel")
    parser.add_argument("--debian", type=int, choices=sorted(image.SUITES), default=13, help="the release of Debian")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--cache", type=Path, default=_CACHE, help="a folder to keep the Debian in, 1 GB")
    parser.add_argument("--native", action="store_true", help="in a container of this machine instead")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the machine and removes its files, as Ctrl-C does
    options.cache.mkdir(parents=True, exist_ok=True)
    heading = _title(options)  # now, before anybody commits something else
    with tempfile.TemporaryDirectory(dir=options.cache, prefix="run-") as temporary:
        rows = list(_rows(options, Path(temporary)))
    missing = list(guest.step_names(PackageSteps if options.package else guest.Steps).values())[len(rows) :]
    rows += [{"step": name, "result": "not run", "seconds": 0, "note": "the machine ended before"} for name in missing]
    table = _table(rows, heading)
    print(f"\n{table}", end="")  # noqa: T201
    if options.out is not None:
        options.out.write_text(table, encoding="utf-8")
    return 0 if all(row["result"] == "passed" for row in rows) else 1


def _rows(options: argparse.Namespace, folder: Path) -> Iterable[dict[str, Any]]:
    """Yield the steps of a run, as they end."""
    job = folder / "job"
    for name in _SCRIPTS:
        (job / name).parent.mkdir(parents=True, exist_ok=True)
        (job / name).write_bytes((wheels.ROOT / name).read_bytes())
    module = _add_packages(options, job) if options.package else _add_wheels(options, job)
    if options.native:
        suite = image.SUITES[options.debian] if options.package else None  # wheels are for the Python that runs this
        steps = container.boot(job, module, folder, suite)
    else:
        _say(f"building Debian {options.debian} for arm64, if it is not in {options.cache}")
        tree = image.debian_tree(options.debian, options.cache)
        built = image.make_image(tree, job, module, folder)
        _say("booting it")
        steps = machine.boot(built, options.cache / "console.log", _TIMEOUT_S)
    for row in steps:
        _say(f"{row['result']} ({row['seconds']:.0f} s): {row['step']}: {row['note']}")
        yield row


def _add_wheels(options: argparse.Namespace, job: Path) -> str:
    """Add what ``guest.py`` installs to its files, and return its module."""
    _say("building the wheels")
    folder = job / "wheels"
    folder.mkdir()
    own = wheels.build_wheel(folder)
    wheels.build_wheel(folder, wheels.LATER)
    wheels.build_wheel(folder, wheels.BROKEN, broken=True)
    if options.native:
        wheels.download_own_wheels(folder, own)
    else:
        wheels.download_wheels(folder, options.debian)
    return guest.__name__


def _add_packages(options: argparse.Namespace, job: Path) -> str:
    """Add what ``package_guest.py`` installs to its files, and return its module."""
    _say("building the packages")
    folder = job / "packages"
    folder.mkdir()
    build_packages(options.debian, ARCHITECTURES[platform.machine()] if options.native else "arm64", folder)
    return package_guest.__name__


def _title(options: argparse.Namespace) -> str:
    git = ("git", "-C", str(wheels.ROOT), "describe", "--always", "--dirty", "--exclude=*")
    commit = subprocess.run(git, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    what = "a container of this machine" if options.native else f"Debian {options.debian}, arm64 emulated by QEMU"
    if options.package:
        what = f"The Debian package, {what}"
    return f"{what}, commit {commit}, {dt.datetime.now(dt.UTC):%Y-%m-%d}"


def _table(rows: Iterable[dict[str, Any]], title: str) -> str:
    lines = [f"{title}:", "", "| step | result | seconds | what was seen |", "|---|---|---|---|"]
    for row in rows:
        note = row["note"].replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row['step']} | {row['result']} | {row['seconds']:.0f} | {note} |")
    return "\n".join([*lines, ""])


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
