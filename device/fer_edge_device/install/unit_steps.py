"""Steps that install, start and stop units, and the command of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge_device.install.paths import COMMAND, UNIT_FOLDER, state_folders
from fer_edge_device.install.systemd_units import TEMPLATE, UNIT, start_unit, unit_state
from fer_edge_device.install.transaction import (
    Step,
    folder_step,
    link_removal_step,
    link_step,
    removal_step,
    restorer,
    write_file,
)
from fer_edge_device.install.venvs import units_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fer_edge_device.install.host import Host
    from fer_edge_device.install.venvs import Venvs

_START_WITHOUT_WAITING: Final = "start --no-block"  # for a unit that was not ready before, its camera unplugged, say


def unit_file_steps(host: Host, venv: Path) -> list[Step]:
    """Return the steps that install the unit files of a venv, which need not exist yet.

    Raises:
        InputError: a unit is masked.
    """
    paths = [host.root / UNIT_FOLDER / name for name in (UNIT, TEMPLATE)]
    for path in paths:
        if path.is_symlink():
            raise InputError(f"{path} is a link, as `systemctl mask` makes them; run: systemctl unmask {path.name}")
    if venv.exists() and all(
        path.is_file() and path.read_bytes() == (units_in(venv) / path.name).read_bytes() for path in paths
    ):
        return []

    def do() -> None:
        for path in paths:
            write_file(path, (units_in(venv) / path.name).read_bytes(), 0o644)
        host.run("systemctl", "daemon-reload")

    return [Step(f"write {paths[0]} and {TEMPLATE}", do, _unit_file_restorer(host, paths))]


def unit_file_removal(host: Host) -> list[Step]:
    """Return the step that removes the unit files."""
    paths = [path for name in (UNIT, TEMPLATE) if (path := host.root / UNIT_FOLDER / name).exists()]
    if not paths:
        return []

    def do() -> None:
        for path in paths:
            path.unlink()
        host.run("systemctl", "daemon-reload")

    return [Step(f"remove {' and '.join(map(str, paths))}", do, _unit_file_restorer(host, paths))]


def _unit_file_restorer(host: Host, paths: Sequence[Path]) -> Callable[[], None]:
    restorers = [restorer(path) for path in paths]

    def restore() -> None:
        for each in restorers:
            each()
        host.run("systemctl", "daemon-reload")

    return restore


def enable_step(host: Host, unit: str) -> Step:
    """Return the step that lets a unit start at boot."""
    return _systemctl("enable", "disable", host, unit)


def disable_step(host: Host, unit: str) -> Step:
    """Return the step that keeps a unit from starting at boot."""
    return _systemctl("disable", "enable", host, unit)


def stop_steps(host: Host, units: Sequence[str]) -> list[Step]:
    """Return the steps that stop units.

    They come before the steps that change files, and are therefore undone after these: the old service then starts
    from the old files.
    """
    return [
        _systemctl("stop", "start" if is_ready(host, unit) else _START_WITHOUT_WAITING, host, unit) for unit in units
    ]


def start_step(host: Host, unit: str) -> Step:
    """Return the step that starts a unit and waits until it is ready."""
    name = unit.removesuffix(".service")
    state_before = state_folders(host, name)

    def undo() -> None:
        host.run("systemctl", "stop", unit)
        for path in state_folders(host, name):
            for step in removal_step(path) if path not in state_before else []:
                step.do()

    return Step(f"start {unit} and wait until it is ready", lambda: start_unit(host, unit), undo)


def restart_step(host: Host, unit: str) -> Step:
    """Return the step that starts a unit again, and waits for it only if it was ready before."""
    return start_step(host, unit) if is_ready(host, unit) else _systemctl(_START_WITHOUT_WAITING, "stop", host, unit)


def is_ready(host: Host, unit: str) -> bool:
    """Return whether a unit has reported that it is ready."""
    return unit_state(host, unit).active in {"active", "reloading"}


def _systemctl(verb: str, opposite: str, host: Host, unit: str) -> Step:
    return Step(
        f"{verb} {unit}",
        lambda: host.run("systemctl", *verb.split(), unit),
        lambda: host.run("systemctl", *opposite.split(), unit),
    )


def command_steps(host: Host, venvs: Venvs) -> list[Step]:
    """Return the steps that put ``fer-edge`` on every user's path, unless a file of that name is there already."""
    link = host.root / COMMAND
    if link.is_symlink() or link.exists():
        return []
    return [*folder_step(link.parent), *link_step(link, venvs.program)]


def command_removal(host: Host, venvs: Venvs) -> list[Step]:
    """Return the step that removes the command, if it is the one of the service."""
    link = host.root / COMMAND
    return [link_removal_step(link)] if link.is_symlink() and link.readlink() == venvs.program else []
