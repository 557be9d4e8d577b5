from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from fer_edge.utils.system import this_program
from fer_edge_device.config.settings import Config
from fer_edge_device.doctor import service
from fer_edge_device.doctor.host import service_units
from fer_edge_device.doctor.service import check_service, service_finding
from fer_edge_device.install.host import Host
from tests.device.doctor.helpers import SERVICE

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from fer_edge_device.install.systemd_units import UnitState


def test_requests_from_systemctl_every_property_that_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`systemctl show` silently omits properties that are not requested."""
    program = tmp_path / "systemctl"
    program.write_text(
        """#!/bin/sh
        for property in Id=fer-edge.service LoadState=loaded ActiveState=active SubState=running Result=watchdog \\
            NRestarts=2 MainPID=812 Group=video SupplementaryGroups=render StatusText=watching \\
            StateChangeTimestamp=today
        do
            case ",${4#--property=}," in *",${property%%=*},"*) echo "$property" ;; esac
        done
        printf '\\nId=fer-edge@hall.service\\nLoadState=not-found\\nActiveState=inactive\\n'
        """
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (unit,) = service_units()
    assert unit == replace(SERVICE, enabled=False, restarts=2, result="watchdog", pid=812, groups=("video", "render"))
    program.write_text("#!/bin/sh\nexit 1\n")  # as without systemd
    assert service_units() == []


def test_judges_the_state_of_the_service() -> None:
    def level(*units: UnitState) -> str:
        return service_finding(list(units)).level

    assert level() == level(SERVICE) == "ok"
    assert level(replace(SERVICE, restarts=40)) == "warning"
    assert level(replace(SERVICE, enabled=False)) == "warning"
    assert level(replace(SERVICE, active="inactive")) == "warning"
    failed = service_finding([SERVICE, replace(SERVICE, active="activating", result="watchdog", restarts=7)])
    assert failed.level == "failure"
    assert "activating (last result: watchdog), restarted 7 times" in failed.message
    instance = replace(SERVICE, name="fer-edge@hall.service")
    assert level(replace(SERVICE, active="inactive", enabled=False), instance) == "ok"


def test_reports_a_running_service_whose_program_no_longer_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(service, "service_units", lambda: [SERVICE])
    monkeypatch.setattr(service, "Host", lambda: Host(tmp_path))
    assert check_service(Config()).level == "ok"
    (tmp_path / "opt/fer-edge/current/bin").mkdir(parents=True)
    broken = check_service(Config())
    assert broken.level == "failure"
    assert "opt/fer-edge/current does not run" in broken.message
    assert broken.advice == f"to repair it: sudo {this_program()} service upgrade"
