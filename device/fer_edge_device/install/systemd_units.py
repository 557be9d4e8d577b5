"""The state of the service's units, and their log."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, ServiceError
from fer_edge_device.config.settings import NODE_NAME
from fer_edge_device.install.paths import CONFIG_FOLDER, UNIT_FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge_device.install.host import Host

UNIT: Final = "fer-edge.service"
TEMPLATE: Final = "fer-edge@.service"
_PROPERTIES: Final = (
    "Id,LoadState,ActiveState,SubState,StateChangeTimestamp,NRestarts,StatusText,Result,MainPID,Group,"
    "SupplementaryGroups"
)
_JOURNAL_TIMEOUT: Final = 10.0  # seconds for journald to store a line


@dataclass(frozen=True)
class UnitState:
    """The state of a unit, as systemd reports it.

    Attributes:
        name: such as ``fer-edge.service``.
        loaded: whether the unit exists.
        active: ``active``, ``activating`` (until READY, or until a restart), ``inactive`` or ``failed``, for example.
        sub: the state in more detail, such as ``running`` or ``auto-restart``.
        enabled: whether it starts at boot.
        since: the time of the last change, as text; empty if it never ran.
        restarts: how often systemd has restarted it.
        status: the status that the service reports.
        result: why it stopped last, such as ``watchdog``; ``success`` if nothing was wrong.
        pid: its process; 0 if there is none.
        groups: the groups of its process.
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
    """Return the unit of a camera; None is the only camera.

    Raises:
        InputError: the name has a character that is not allowed in a topic.
    """
    if instance is None:
        return UNIT
    if not re.fullmatch(NODE_NAME, instance) or instance == "config":
        raise InputError(
            f"--instance {instance!r}: use 1 to 64 letters, digits, '_', '.' and '-', a letter or digit among them, and"
            " not the name config"
        )
    return TEMPLATE.replace("@", f"@{instance}")


def enabled_units(host: Host) -> list[str]:
    """Return the names of the units that start at boot."""
    wanted = host.root / UNIT_FOLDER / "multi-user.target.wants"
    return sorted(path.name for path in wanted.glob("*") if re.fullmatch(r"fer-edge(@.+)?\.service", path.name))


def unit_state(host: Host, unit: str) -> UnitState:
    """Return the state of a unit, even if it does not exist."""
    return _unit_states(host, unit)[0]


def installed_units(host: Host) -> list[UnitState]:
    """Return the state of each unit of fer-edge that exists.

    Raises:
        ServiceError: systemd does not run here.
    """
    return [state for state in _unit_states(host, UNIT, TEMPLATE.replace("@", "@*")) if state.loaded]


def _unit_states(host: Host, *units: str) -> list[UnitState]:
    output = host.run("systemctl", "show", *units, f"--property={_PROPERTIES}")
    enabled = enabled_units(host)
    return [_unit_state(block, enabled) for block in output.split("\n\n") if block.strip()]


def _unit_state(block: str, enabled: Sequence[str]) -> UnitState:
    values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
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


def service_units(host: Host) -> list[str]:
    """Return the units that start at boot, and those that run without being enabled."""
    names = [path.stem for path in (host.root / CONFIG_FOLDER).glob("*.toml")]
    configured = [unit_name(None if name == "config" else name) for name in names if re.fullmatch(NODE_NAME, name)]
    return sorted({*enabled_units(host), *running_units(host, configured)})


def running_units(host: Host, units: Sequence[str]) -> list[str]:
    """Return the units that have not been stopped, including those that wait for a restart."""
    return [unit for unit in units if unit_state(host, unit).active != "inactive"]


def last_lines(host: Host, unit: str, count: int = 5) -> list[str]:
    """Return the last lines of a unit in the journal, including those of systemd."""
    return host.run("journalctl", "--no-pager", "-q", "-o", "cat", "-n", str(count), "-u", unit).splitlines()


def lines_of_this_run(host: Host, unit: str) -> list[str]:
    """Return the lines that the unit has logged since its last start."""
    invocation = host.run("systemctl", "show", unit, "--property=InvocationID", "--value").strip()
    if not invocation:
        return []
    return host.run("journalctl", "--no-pager", "-q", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}").splitlines()


def first_message(host: Host, unit: str) -> str | None:
    """Return the first message in the journal of a unit that was just started, or None."""
    deadline = time.monotonic() + _JOURNAL_TIMEOUT
    while True:
        found = next((line for line in lines_of_this_run(host, unit) if line.startswith('{"topic"')), None)
        if found or time.monotonic() >= deadline:
            return found
        time.sleep(0.2)


def start_unit(host: Host, unit: str) -> None:
    """Start a unit and wait until it is ready.

    Raises:
        ServiceError: it did not become ready; the message has its last line.
    """
    try:
        host.run("systemctl", "start", unit)
    except ServiceError as error:
        lines = [line for line in lines_of_this_run(host, unit) if not line.startswith("{")]
        hint = f"last line: {lines[-1]}" if lines else f"see: journalctl -u {unit}"
        raise ServiceError(f"{unit} did not become ready; {hint}") from error
