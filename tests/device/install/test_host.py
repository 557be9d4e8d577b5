from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.cli.service import host_to_change
from fer_edge.errors import InputError, ServiceError
from fer_edge_device.install import host
from fer_edge_device.install.host import run_program

if TYPE_CHECKING:
    from tests.device.machines import Pi


def test_reports_the_last_line_of_a_failed_program() -> None:
    with pytest.raises(ServiceError, match=r"^sh: second$"):
        run_program("sh", "-c", "echo first >&2; echo second >&2; exit 3")
    with pytest.raises(ServiceError, match="cannot be run"):
        run_program("/nonexistent/systemctl")


def test_only_root_may_install_but_everybody_may_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "is_root", lambda: False)
    with pytest.raises(InputError, match="run it as root: sudo /"), host_to_change(dry_run=False):
        pass
    with host_to_change(dry_run=True) as real:
        assert real.root == Path("/")


def test_only_one_process_may_change_a_host_at_a_time(pi: Pi) -> None:
    with pi.host.locked():
        with (
            pytest.raises(ServiceError, match="another process is installing, upgrading or removing fer-edge"),
            pi.host.locked(),
        ):
            pass
        child = subprocess.Popen(["sleep", "600"])  # noqa: S607
    with pi.host.locked():  # although a process that was started meanwhile still runs
        child.kill()
        child.wait()
