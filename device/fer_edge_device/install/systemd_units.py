"""The service's units as systemd sees them on a machine."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.errors import InputError, ServiceError
from fer_edge_device.config.settings import NODE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

UNIT_FOLDER: Final = "etc/systemd/system"
UNIT: Final = "fer-edge.service"
TEMPLATE: Final = "fer-edge@.service"
_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,SubState,StateChangeTimestamp,NRestarts,StatusText,Result,MainPID,Group,"
    "SupplementaryGroups"
)
_LOCK: Final = "run/fer-edge.lock"
_PATIENCE: Final = 10.0  # seconds that journald has to write down what a service said


class Run(Protocol):
    """Runs a program of the machine."""

    def __call__(self, *command: str) -> str:
        """What it wrote to standard output.

        Raises:
            ServiceError: it is not there or failed.
        """
        ...


def run_program(*command: str) -> str:
    """Run a program; see `Run`."""
    try:
        done = subprocess.run(  # noqa: S603 - systemctl, journalctl, python and pip, with paths of ours
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise ServiceError(f"{command[0]}: cannot be run ({error.strerror})") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise ServiceError(f"{Path(command[0]).name}: {said[-1]}")
    return done.stdout


@dataclass(frozen=True)
class Machine:
    """The machine that the service runs on.

    Attributes:
        root: the folder that its paths begin with.
        run: runs its programs.
    """

    root: Path = Path("/")
    run: Run = run_program

    def need_systemd(self) -> None:
        """Refuse to go on where another init runs, as in most containers.

        Raises:
            InputError: systemd does not run.
        """
        if not (self.root / "run/systemd/system").is_dir():  # what sd_booted(3) looks at
            raise InputError("systemd does not run on this machine; let what does start: fer-edge run")

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Have the machine changed by nobody else meanwhile: another install, upgrade, uninstall or deploy.

        Raises:
            ServiceError: somebody else has it.
        """
        with (self.root / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ServiceError(
                    "this machine's fer-edge is being installed, upgraded or removed by another; try again afterwards"
                ) from error
            yield


@dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit.

    Attributes:
        name: such as ``fer-edge.service``.
        loaded: whether there is such a unit.
        active: such as ``active``, ``activating`` (while it waits for READY or a restart), ``inactive``, ``failed``.
        sub: the same in finer words, such as ``running`` or ``auto-restart``.
        enabled: whether it starts at boot.
        since: when it became what it is, in words; empty if it never ran.
        restarts: how often systemd has restarted it by itself.
        status: what the service says of itself.
        result: why it ended last, such as ``watchdog``; ``success`` where nothing was wrong.
        pid: of its process; 0 where there is none.
        groups: what its process belongs to.
    """

    name: str
    loaded: bool
    active: str
    sub: str
    enabled: bool
    since: str
    restarts: int
    status: str
    result: str
    pid: int
    groups: tuple[str, ...]


def unit_name(instance: str | None) -> str:
    """The unit of a camera; of the only one without a name.

    Raises:
        InputError: the name is unfit for a topic.
    """
    if instance is None:
        return UNIT
    if not re.fullmatch(NODE_NAME, instance) or instance == "config":
        raise InputError(
            f"--instance {instance!r}: use up to 64 letters, digits, '_', '.' and '-', and another name than config"
        )
    return TEMPLATE.replace("@", f"@{instance}")


def enabled_units(machine: Machine) -> list[str]:
    """The units that start at boot, by name."""
    wanted = machine.root / UNIT_FOLDER / "multi-user.target.wants"
    return sorted(path.name for path in wanted.glob("*") if re.fullmatch(r"fer-edge(@.+)?\.service", path.name))


def unit_state(machine: Machine, unit: str) -> UnitState:
    """What systemd says of a unit, be there one or not."""
    return _unit_states(machine, unit)[0]


def installed_units(machine: Machine) -> list[UnitState]:
    """What systemd says of each of our units that is there.

    Raises:
        ServiceError: systemd does not run here.
    """
    return [state for state in _unit_states(machine, UNIT, TEMPLATE.replace("@", "@*")) if state.loaded]


def _unit_states(machine: Machine, *units: str) -> list[UnitState]:
    shown = machine.run("systemctl", "show", *units, f"--property={_PROPERTIES}")
    enabled = enabled_units(machine)
    return [_unit_state(block, enabled) for block in shown.split("\n\n") if block.strip()]


def _unit_state(shown: str, enabled: Sequence[str]) -> UnitState:
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    return UnitState(
        name=values["Id"],
        loaded=values.get("LoadState") == "loaded",
        active=values.get("ActiveState", "inactive"),
        sub=values.get("SubState", "dead"),
        enabled=values["Id"] in enabled,
        since=values.get("StateChangeTimestamp", ""),
        restarts=int(values.get("NRestarts") or 0),
        status=values.get("StatusText", ""),
        result=values.get("Result", ""),
        pid=int(values.get("MainPID") or 0),
        groups=tuple(f"{values.get('Group', '')} {values.get('SupplementaryGroups', '')}".split()),
    )


def last_lines(machine: Machine, unit: str, count: int = 5) -> list[str]:
    """The last lines that the journal has of a unit, systemd's own among them."""
    return machine.run("journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(count), "-u", unit).splitlines()


def lines_of_this_run(machine: Machine, unit: str) -> list[str]:
    """What the unit's processes have said since it was started last."""
    invocation = machine.run("systemctl", "show", unit, "--property=InvocationID", "--value").strip()
    if not invocation:
        return []
    return machine.run(
        "journalctl", "--no-pager", "-q", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}"
    ).splitlines()


def first_message(machine: Machine, unit: str) -> str | None:
    """The first message that a unit which was just started has written to the journal; None if there is none."""
    until = time.monotonic() + _PATIENCE
    while True:
        found = next((line for line in lines_of_this_run(machine, unit) if line.startswith('{"topic"')), None)
        if found or time.monotonic() >= until:
            return found
        time.sleep(0.2)


def start(machine: Machine, unit: str) -> None:
    """Start a unit and wait until it is ready.

    Raises:
        ServiceError: it did not become ready; says what its last words were.
    """
    try:
        machine.run("systemctl", "start", unit)
    except ServiceError as error:
        words = [line for line in lines_of_this_run(machine, unit) if not line.startswith("{")]
        said = f"its last words: {words[-1]}" if words else f"see: journalctl -u {unit}"
        raise ServiceError(f"{unit} did not become ready; {said}") from error


def is_root() -> bool:
    """Whether this process may change the system."""
    return os.geteuid() == 0
