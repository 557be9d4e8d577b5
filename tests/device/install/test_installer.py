"""Install, upgrade and remove the service in a scratch folder, with fakes of systemd and pip only."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.cli.service import status
from fer_edge.errors import InputError, ServiceError
from fer_edge.utils.system import this_program
from fer_edge_device.config.load import load_config
from fer_edge_device.install import host
from fer_edge_device.install.host import Host
from fer_edge_device.install.installer import install_steps, uninstall_steps, upgrade_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.program_source import program_source
from fer_edge_device.install.systemd_units import enabled_units, first_message, unit_name, unit_state
from fer_edge_device.install.transaction import apply
from fer_edge_device.install.venvs import Venvs
from tests.device.machines import UNITS, Pi, newer

if TYPE_CHECKING:
    from fer_edge_device.install.program_source import ProgramSource
    from fer_edge_device.install.transaction import Step


def test_installs_program_unit_and_configuration_and_starts(pi: Pi, wheel: ProgramSource) -> None:
    options = InstallOptions(camera="/dev/video0", mqtt="mqtt://pi@broker.local")
    output = pi.do(install_steps(pi.host, options, wheel))
    assert output[-1] == "start fer-edge.service and wait until it is ready"
    config = load_config(pi.config(), {})
    assert (config.camera.source, config.mqtt.url) == ("/dev/video0", "mqtt://pi@broker.local")
    assert pi.config().stat().st_mode & 0o777 == 0o640
    assert ("chgrp", "video", str(pi.config())) in pi.commands
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/1")
    for name in ("fer-edge.service", "fer-edge@.service"):
        assert (pi.root / "etc/systemd/system" / name).read_text() == (UNITS / name).read_text()
    assert enabled_units(pi.host) == ["fer-edge.service"]
    assert unit_state(pi.host, "fer-edge.service").active == "active"
    assert first_message(pi.host, "fer-edge.service") == '{"topic":"x"}'


def test_a_second_installation_has_no_steps(pi: Pi, wheel: ProgramSource) -> None:
    options = InstallOptions(camera="demo")
    pi.do(install_steps(pi.host, options, wheel))
    assert install_steps(pi.host, options, wheel) == []


@pytest.mark.parametrize("kind", ["wheel", "clone"])
def test_refuses_another_program_than_is_installed(pi: Pi, wheel: ProgramSource, kind: str) -> None:
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    other = newer(wheel) if kind == "wheel" else program_source(UNITS.parent)
    with pytest.raises(InputError, match=f"another program than {other.requirement} is installed; replace it with: "):
        install_steps(pi.host, InstallOptions(), other)


def test_planning_changes_nothing(pi: Pi, wheel: ProgramSource) -> None:
    before = pi.files()
    assert install_steps(pi.host, InstallOptions(), wheel)
    assert pi.files() == before


@pytest.mark.parametrize("failing", ["venv", "pip", "chgrp", "daemon-reload", "enable", "start"])
def test_a_failed_installation_leaves_the_host_unchanged(
    pi: Pi, wheel: ProgramSource, tmp_path: Path, failing: str
) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    (pi.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    before = pi.files()
    pi.fails = failing
    with pytest.raises(ServiceError):
        pi.do(install_steps(pi.host, InstallOptions(password_file=password), wheel))
    assert pi.files() == before
    assert not pi.active


def test_reports_the_last_line_of_a_service_that_does_not_become_ready(pi: Pi, wheel: ProgramSource) -> None:
    pi.fails = "start"
    with pytest.raises(ServiceError, match="did not become ready; last line: fer-edge: no camera found"):
        pi.do(install_steps(pi.host, InstallOptions(), wheel))


def test_requires_systemd(tmp_path: Path, wheel: ProgramSource) -> None:
    with pytest.raises(InputError, match=r"systemd does not run on this machine.*; start `fer-edge run` yourself"):
        install_steps(Host(tmp_path), InstallOptions(), wheel)


def test_refuses_a_masked_unit(pi: Pi, wheel: ProgramSource) -> None:
    unit = pi.root / "etc/systemd/system/fer-edge.service"
    unit.symlink_to("/dev/null")
    with pytest.raises(InputError, match=r"systemctl unmask fer-edge\.service"):
        install_steps(pi.host, InstallOptions(), wheel)


def test_each_of_several_cameras_has_a_unit_and_a_configuration(pi: Pi, wheel: ProgramSource) -> None:
    for name, camera in (("door", "0"), ("hall.2", "2")):
        pi.do(install_steps(pi.host, InstallOptions(instance=name, camera=camera), wheel))
    assert enabled_units(pi.host) == ["fer-edge@door.service", "fer-edge@hall.2.service"] == sorted(pi.active)
    assert [load_config(pi.config(name), {}).camera.source for name in ("door", "hall.2")] == ["0", "2"]

    pi.do(uninstall_steps(pi.host, "door", purge=True))
    assert pi.active == {"fer-edge@hall.2.service"}
    assert not pi.config("door").exists()
    assert pi.config("hall.2").exists()
    assert (pi.root / "etc/systemd/system/fer-edge@.service").exists()

    pi.do(uninstall_steps(pi.host, "hall.2", purge=False))  # the last
    assert not (pi.root / "etc/systemd/system/fer-edge@.service").exists()
    pi.do(uninstall_steps(pi.host, "door", purge=True))
    assert pi.config("hall.2").exists()


def test_upgrade_starts_the_new_program_and_keeps_the_old_one(pi: Pi, wheel: ProgramSource) -> None:
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    for number in ("2", "3"):
        origin = newer(wheel)
        pi.do(upgrade_steps(pi.host, origin))
        assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs") / number
        assert upgrade_steps(pi.host, origin) == []
    assert [path.name for path in Venvs(pi.host).all()] == ["2", "3"]
    assert pi.active == {"fer-edge.service"}


def test_upgrades_and_lists_a_running_unit_that_is_not_enabled(
    pi: Pi, wheel: ProgramSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pi.do(install_steps(pi.host, InstallOptions(instance="hall"), wheel))
    pi.run("systemctl", "disable", "fer-edge@hall.service")
    pi.commands.clear()
    pi.do(upgrade_steps(pi.host, newer(wheel)))
    verbs = [command[1] for command in pi.commands if command[2:] == ("fer-edge@hall.service",)]
    assert verbs == ["stop", "start"]
    monkeypatch.setattr(host, "Host", lambda: pi.host)
    status()
    assert "fer-edge@hall.service: active" in capsys.readouterr().out


def test_a_unit_with_an_unplugged_camera_does_not_prevent_an_upgrade(pi: Pi, wheel: ProgramSource) -> None:
    for name in ("door", "hall"):
        pi.do(install_steps(pi.host, InstallOptions(instance=name), wheel))
    pi.unplugged = {"fer-edge@door.service"}
    pi.do(upgrade_steps(pi.host, newer(wheel)))
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")

    steps = upgrade_steps(pi.host, newer(wheel))
    pi.unplugged.add("fer-edge@hall.service")  # with the new program, which has to start it
    output: list[str] = []
    with pytest.raises(ServiceError, match=r"fer-edge@hall\.service did not become ready"):
        apply(steps, output.append)
    assert not [line for line in output if line.startswith("could not undo: stop fer-edge@door")]
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")
    assert pi.active == {"fer-edge@door.service", "fer-edge@hall.service"}


@pytest.mark.parametrize("failing", ["venv", "pip", "stop", "start"])
def test_a_failed_upgrade_returns_to_the_old_program(pi: Pi, wheel: ProgramSource, failing: str) -> None:
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    before = pi.files()
    steps = upgrade_steps(pi.host, newer(wheel))
    pi.commands.clear()
    pi.fails = failing
    with pytest.raises(ServiceError):
        pi.do(steps)
    assert pi.files() == before
    if failing == "start":  # the old program was started again from its old files
        assert pi.commands[-1] == ("systemctl", "start", "fer-edge.service")


@pytest.mark.parametrize("way", ["upgrade", "install", "deploy"])
def test_reinstalls_a_program_that_a_system_upgrade_broke(pi: Pi, wheel: ProgramSource, way: str) -> None:
    def steps() -> list[Step]:
        if way == "upgrade":
            return upgrade_steps(pi.host, wheel)
        return install_steps(pi.host, InstallOptions(replace=way == "deploy"), wheel)

    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    pi.do(install_steps(pi.host, InstallOptions(instance="hall"), wheel))
    assert steps() == []
    pi.python = "3 13 True True False"
    before = pi.files()
    pi.fails = "start"
    with pytest.raises(ServiceError, match="did not become ready"):
        pi.do(steps())
    assert pi.files() == before
    pi.fails = None
    pi.active = {"fer-edge.service", "fer-edge@hall.service"}

    broken, new = (pi.root / "opt/fer-edge/venvs" / name for name in ("1", "2"))
    pi.commands.clear()
    output = pi.do(steps())
    assert output[0] == (
        f"create {new} from {wheel.requirement} (a few minutes on a small Pi), because {broken} does not run"
        " (python: ModuleNotFoundError: No module named 'fer_edge_device')"
    )
    assert [command[2] for command in pi.commands if command[:2] == ("systemctl", "start")] == sorted(pi.active)
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")
    assert steps() == []


def test_status_reports_a_program_that_does_not_run(
    pi: Pi, wheel: ProgramSource, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    monkeypatch.setattr(host, "Host", lambda: pi.host)
    status()
    assert "does not run" not in capsys.readouterr().out
    pi.python = "3 13 True True False"
    status()
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("fer-edge 0.1.0 in ")
    assert output[1].endswith(f"'fer_edge_device'); to repair it: sudo {this_program()} service upgrade")


def test_installs_the_command_and_removes_it_with_the_service(pi: Pi, wheel: ProgramSource) -> None:
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    command = pi.root / "usr/local/bin/fer-edge"
    assert command.readlink() == pi.root / "opt/fer-edge/current/bin/fer-edge"  # so that it follows an upgrade

    command.unlink()  # as after an earlier version
    assert [step.description for step in install_steps(pi.host, InstallOptions(), wheel)] == [
        f"point {command} at {pi.root}/opt/fer-edge/current/bin/fer-edge"
    ]
    pi.do(upgrade_steps(pi.host, newer(wheel)))
    assert command.is_symlink()

    pi.fails = "daemon-reload"
    with pytest.raises(ServiceError):
        pi.do(uninstall_steps(pi.host, None, purge=False))
    pi.fails = None
    assert command.is_symlink()
    pi.do(uninstall_steps(pi.host, None, purge=False))
    assert not command.is_symlink()


@pytest.mark.parametrize("is_link", [False, True], ids=["file", "link"])
def test_keeps_a_command_of_another_program(pi: Pi, wheel: ProgramSource, *, is_link: bool) -> None:
    command = pi.root / "usr/local/bin/fer-edge"
    if is_link:
        command.symlink_to("/home/ada/bin/fer-edge")  # which may not exist
    else:
        command.write_text("theirs")
    pi.do(install_steps(pi.host, InstallOptions(), wheel))
    pi.do(uninstall_steps(pi.host, None, purge=True))
    assert command.is_symlink() == is_link
    assert is_link or command.read_text() == "theirs"


def test_upgrade_requires_an_installed_service(pi: Pi, wheel: ProgramSource) -> None:
    with pytest.raises(InputError, match=f"sudo {re.escape(this_program())} service install"):
        upgrade_steps(pi.host, wheel)


@pytest.mark.parametrize("credentials", ["none", "systemd's folder", "another service's"])
def test_uninstall_keeps_the_users_files_and_purge_removes_them(
    pi: Pi, wheel: ProgramSource, tmp_path: Path, credentials: str
) -> None:
    (pi.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    if credentials != "none":
        (pi.root / "etc/credstore").mkdir()
    if credentials == "systemd's folder":
        (pi.root / "usr/lib/tmpfiles.d").mkdir(parents=True)
        (pi.root / "usr/lib/tmpfiles.d/credstore.conf").touch()
    elif credentials == "another service's":
        (pi.root / "etc/credstore/other").touch()
    password = tmp_path / "password"
    password.write_text("secret")
    before = pi.files()
    pi.do(install_steps(pi.host, InstallOptions(password_file=password), wheel))
    state = pi.root / "var/lib/private/fer-edge"
    state.mkdir()
    (pi.root / "var/lib/fer-edge").symlink_to("private/fer-edge")

    pi.do(uninstall_steps(pi.host, None, purge=False))
    assert (enabled_units(pi.host), pi.active) == ([], set())
    assert pi.config().exists()
    assert state.exists()
    assert not (pi.root / "etc/systemd/system/fer-edge.service").exists()
    assert uninstall_steps(pi.host, None, purge=False) == []

    pi.do(uninstall_steps(pi.host, None, purge=True))
    assert pi.files() == before
    assert uninstall_steps(pi.host, None, purge=True) == []


def test_names_a_unit_after_its_camera() -> None:
    assert unit_name(None) == "fer-edge.service"
    assert unit_name("living-room") == "fer-edge@living-room.service"


def test_advice_contains_the_full_path_of_this_program(
    pi: Pi, wheel: ProgramSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/fer-edge", "service", "upgrade"])
    with pytest.raises(InputError, match=f"sudo {tmp_path}/bin/fer-edge service install"):
        upgrade_steps(pi.host, wheel)
    monkeypatch.setattr(sys, "argv", ["/srv/fer_edge/cli/__main__.py", "service", "upgrade"])
    with pytest.raises(InputError, match=f"sudo {sys.executable} -m fer_edge.cli service install"):
        upgrade_steps(pi.host, wheel)
