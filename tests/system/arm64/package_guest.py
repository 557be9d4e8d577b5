"""The steps of the Debian package, as the guest runs them: as root, with the standard library alone.

    python3 -m tests.system.arm64.package_guest [--stream]

Prints what ``guest.py`` prints. The folder ``packages`` lies beside ``tests``, which has this file.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.system.arm64 import guest
from tests.system.debian_package.steps import DROP_IN, PackageSteps

PACKAGES = Path(__file__).parents[3] / "packages"


class ThisMachine:
    """The machine that runs this."""

    root = Path("/")

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment},
        )
        output = done.stdout + done.stderr
        if "Traceback" in output or (check and done.returncode):
            raise guest.StepError(f"`{' '.join(command)}` ended with status {done.returncode}: {output[-2000:]}")
        return done

    def files(self) -> set[str]:
        return guest.files()


if __name__ == "__main__":
    names = sorted(path.name for path in PACKAGES.glob("*.deb"))  # 0.1.0, 999.0, 999.1
    guest.run_steps(PackageSteps(ThisMachine(), str(PACKAGES), names, DROP_IN + guest.DROP_IN, guest.PATIENCE))
