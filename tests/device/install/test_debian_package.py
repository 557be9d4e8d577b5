"""Configure a service whose program came with the Debian package, in a scratch folder.

`tests/system/debian_package` installs the real package.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError
from fer_edge_device.install.installer import install_steps, uninstall_steps, upgrade_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.paths import SHIPPED_CONFIG
from fer_edge_device.install.systemd_units import enabled_units
from fer_edge_device.install.venvs import Venvs, version_in
from tests.device.machines import UNITS, Pi

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.install.program_source import ProgramSource

CONFIG = '[camera]\nsource = "auto"\n'


@pytest.fixture
def packaged(tmp_path: Path) -> Pi:
    """Return a host on which the Debian package is installed, and not configured yet."""
    pi = Pi(tmp_path / "pi")
    program = pi.root / "usr/lib/fer-edge/program"
    shutil.copytree(UNITS, pi.packages(program) / "fer_edge_device/units")
    (pi.packages(program) / "fer_edge-0.1.0.dist-info").mkdir()
    (pi.root / "opt/fer-edge").mkdir()
    (pi.root / "opt/fer-edge/current").symlink_to(program)
    for path in (pi.config(), pi.root / SHIPPED_CONFIG):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONFIG)
    return pi


def test_the_installer_configures_and_starts_the_packaged_program(packaged: Pi) -> None:
    packaged.do(install_steps(packaged.host, InstallOptions(camera="/srv/video", mqtt="mqtt://broker")))
    assert 'source = "/srv/video"' in packaged.config().read_text()
    assert packaged.active == {"fer-edge.service"}
    assert enabled_units(packaged.host) == ["fer-edge.service"]
    assert version_in(Venvs(packaged.host).current() or packaged.root) == "0.1.0"
    assert not (packaged.root / "opt/fer-edge/venvs").exists()
    assert not (packaged.root / "etc/systemd/system/fer-edge.service").exists()
    assert not (packaged.root / "usr/local/bin/fer-edge").exists()
    assert not any("venv" in command or "pip" in command for command in packaged.commands)
    assert install_steps(packaged.host, InstallOptions(camera="/srv/video")) == []


def test_the_packages_configuration_stays_until_an_option_differs(packaged: Pi) -> None:
    packaged.do(install_steps(packaged.host, InstallOptions()))
    assert packaged.config().read_text() == CONFIG
    packaged.config().write_text(f"# mine\n{CONFIG}")
    with pytest.raises(InputError, match=r"another camera\.source than --camera"):
        install_steps(packaged.host, InstallOptions(camera="demo"))
    assert packaged.config().read_text() == f"# mine\n{CONFIG}"


def test_apt_alone_changes_and_removes_the_program(packaged: Pi, wheel: ProgramSource) -> None:
    packaged.do(install_steps(packaged.host, InstallOptions()))
    before = packaged.files()
    with pytest.raises(InputError, match="sudo apt install"):
        install_steps(packaged.host, InstallOptions(replace=True), wheel)
    with pytest.raises(InputError, match="sudo apt install"):
        upgrade_steps(packaged.host, wheel)
    with pytest.raises(InputError, match="sudo apt purge fer-edge"):
        uninstall_steps(packaged.host, None, purge=True)
    assert packaged.files() == before


def test_says_how_to_repair_a_program_that_a_system_upgrade_broke(packaged: Pi) -> None:
    packaged.python = "3 13 True True False"
    with pytest.raises(InputError, match=r"does not run .*; fer-edge is installed here as a Debian package"):
        install_steps(packaged.host, InstallOptions())


def test_one_of_several_cameras_can_be_removed(packaged: Pi) -> None:
    for name in ("door", "hall"):
        packaged.do(install_steps(packaged.host, InstallOptions(camera="demo", instance=name)))
    for name in ("door", "hall"):
        packaged.do(uninstall_steps(packaged.host, name, purge=True))
        assert not packaged.config(name).exists()
    assert enabled_units(packaged.host) == []
    assert (packaged.root / "opt/fer-edge/current").exists()
    assert packaged.config().exists()
