"""The host that the service runs on."""

from __future__ import annotations

import fcntl
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.errors import InputError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK: Final = "run/fer-edge.lock"


class ProgramRunner(Protocol):
    """Runs a program on the host."""

    def __call__(self, *command: str) -> str:
        """Run a program and return its standard output.

        Raises:
            ServiceError: the program is missing or failed.
        """
        ...


def run_program(*command: str) -> str:
    """Run a program; see `ProgramRunner`."""
    try:
        done = subprocess.run(  # noqa: S603 - systemctl, journalctl, python and pip, with paths of ours
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ServiceError(f"{command[0]}: cannot be run ({error.strerror})") from error
    if done.returncode:
        output = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise ServiceError(f"{Path(command[0]).name}: {output[-1]}")
    return done.stdout


@dataclass(frozen=True)
class Host:
    """A host, real or in a folder.

    Attributes:
        root: the folder that holds its file system.
        run: runs its programs.
    """

    root: Path = Path("/")
    run: ProgramRunner = run_program

    def require_systemd(self) -> None:
        """Check that systemd runs, which it does not in most containers.

        Raises:
            InputError: systemd does not run.
        """
        if not (self.root / "run/systemd/system").is_dir():  # the test of sd_booted(3)
            raise InputError(
                "systemd does not run on this machine, so no service can be installed; start `fer-edge run` yourself"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the host against every other install, upgrade, uninstall and deploy.

        Raises:
            ServiceError: another one is running.
        """
        with (self.root / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServiceError(
                    "another process is installing, upgrading or removing fer-edge on this machine; try again later"
                ) from error
            yield


def is_root() -> bool:
    """Return whether this process may change the system."""
    return os.geteuid() == 0
