from __future__ import annotations

import hashlib
import re
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_device.install.host import Host
from fer_edge_device.install.installer import install_steps, upgrade_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.program_source import ProgramSource, own_program_source, program_source
from fer_edge_device.install.venvs import Venvs
from tests.device.machines import UNITS, newer

if TYPE_CHECKING:
    from tests.device.machines import Pi


@pytest.mark.parametrize(
    ("python", "output"),
    [
        ("3 9 True True False", "is Python 3.9; fer-edge needs 3.11"),
        ("3 11 True False False", "sudo apt install python3-venv"),
    ],
)
def test_reports_an_unsuitable_python(pi: Pi, wheel: ProgramSource, python: str, output: str) -> None:
    pi.python = python
    with pytest.raises(InputError, match=re.escape(output)):
        install_steps(pi.host, InstallOptions(), wheel)


def test_a_venv_uses_the_systems_packages_if_picamera2_is_installed(pi: Pi, wheel: ProgramSource) -> None:
    pi.python = "3 11 True True True"
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    assert any("--system-site-packages" in command for command in pi.commands)
    pi.python = "3 11 True True False"  # and continues to
    pi.do(upgrade_steps(pi.host, newer(wheel)))
    assert "true" in (pi.root / "opt/fer-edge/current/pyvenv.cfg").read_text()


def test_notices_a_venv_without_python_or_packages(tmp_path: Path) -> None:
    venvs, path = Venvs(Host(tmp_path)), tmp_path / "venv"
    assert not venvs.problem(Path(sys.prefix))
    venv.create(path, symlinks=True)
    output = venvs.problem(path)
    assert "does not run (python: ModuleNotFoundError: No module named 'fer_edge_device')" in output
    (path / "bin/python").unlink()
    (path / "bin/python").symlink_to("/nonexistent/python3.11")
    assert "cannot be run (No such file or directory)" in venvs.problem(path)


def test_a_program_source_is_a_wheel_or_a_clone(tmp_path: Path, wheel: ProgramSource) -> None:
    assert wheel.sha256 == hashlib.sha256(Path(wheel.requirement).read_bytes()).hexdigest()
    clone = UNITS.parent
    assert program_source(clone) == ProgramSource(str(clone))
    with pytest.raises(InputError, match="neither a wheel nor"):
        program_source(tmp_path)
    # The tests run from an installation of a clone.
    assert (Path(own_program_source().requirement) / "systemd/fer-edge.service").exists()
