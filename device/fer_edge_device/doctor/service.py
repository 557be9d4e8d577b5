"""Check the installed service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.utils.system import this_program
from fer_edge.utils.words import counted
from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.host import service_units
from fer_edge_device.install.host import Host
from fer_edge_device.install.venvs import Venvs

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config
    from fer_edge_device.install.systemd_units import UnitState

_MAX_RESTARTS: Final = 3  # more than these are no accident


def check_service(config: Config) -> Finding:
    """Check that the installed program runs and that its units are healthy."""
    del config
    units, venvs = service_units(), Venvs(Host())
    venv = venvs.current()
    if units and venv and (problem := venvs.problem(venv)):
        return Finding("failure", problem, f"to repair it: sudo {this_program()} service upgrade")
    return service_finding(units)


def service_finding(units: list[UnitState]) -> Finding:
    """Return the worst finding about the units."""
    if len(units) > 1:  # with one unit per camera, the plain unit need not run
        units = [unit for unit in units if unit.enabled or unit.active != "inactive"] or units
    if not units:
        return Finding("ok", f"not installed; to install it: sudo {this_program()} service install")
    worst = Finding("ok", ", ".join(f"{unit.name} is running" for unit in units))
    for unit in units:
        log = f"`journalctl -u {unit.name} -n 50` shows why"
        restarted = f"restarted {counted(unit.restarts, 'time')}"
        if unit.active not in {"active", "inactive"}:
            reason = f" (last result: {unit.result})" if unit.result not in {"", "success"} else ""
            return Finding("failure", f"{unit.name} is {unit.active}{reason}, {restarted}", log)
        if unit.active == "inactive":
            worst = Finding("warning", f"{unit.name} is not running", f"sudo systemctl enable --now {unit.name}")
        elif unit.restarts > _MAX_RESTARTS:
            worst = Finding("warning", f"{unit.name} is running, {restarted}", log)
        elif not unit.enabled:
            worst = Finding("warning", f"{unit.name} does not start at boot", f"sudo systemctl enable {unit.name}")
    return worst
