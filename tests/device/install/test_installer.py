"""Installation, upgrade and removal in a scratch folder: real files, with stand-ins for systemd and pip alone."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from fer_edge.cli.service import machine_to_change, status
from fer_edge.errors import InputError, ServiceError
from fer_edge.utils.system import this_program
from fer_edge_device.config.load import load_config
from fer_edge_device.config.render import example
from fer_edge_device.config.settings import CameraSettings, Config
from fer_edge_device.install import systemd_units
from fer_edge_device.install.installer import Wishes, install_steps, uninstall_steps, upgrade_steps
from fer_edge_device.install.systemd_units import (
    Machine,
    enabled_units,
    first_message,
    run_program,
    unit_name,
    unit_state,
)
from fer_edge_device.install.transaction import Step, carry_out
from fer_edge_device.install.venvs import Origin, Venvs, origin_at, own_origin
from tests.device.machines import UNITS, Pi, make_wheel, newer


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path / "pi")


@pytest.fixture
def wheel(tmp_path: Path) -> Origin:
    return make_wheel(tmp_path)


def test_an_installation_has_program_unit_and_configuration_and_runs(pi: Pi, wheel: Origin) -> None:
    wishes = Wishes(camera="/dev/video0", mqtt="mqtt://pi@broker.local")
    said = pi.do(install_steps(pi.machine, wishes, wheel))
    assert said[-1] == "start fer-edge.service and wait until it is ready"
    config = load_config(pi.config(), {})
    assert (config.camera.source, config.mqtt.url) == ("/dev/video0", "mqtt://pi@broker.local")
    assert pi.config().stat().st_mode & 0o777 == 0o640
    assert ("chgrp", "video", str(pi.config())) in pi.commands
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/1")
    for name in ("fer-edge.service", "fer-edge@.service"):
        assert (pi.root / "etc/systemd/system" / name).read_text() == (UNITS / name).read_text()
    assert enabled_units(pi.machine) == ["fer-edge.service"]
    assert unit_state(pi.machine, "fer-edge.service").active == "active"
    assert first_message(pi.machine, "fer-edge.service") == '{"topic":"x"}'


def test_the_configuration_that_is_made_is_the_example_with_what_was_wished(pi: Pi, wheel: Origin) -> None:
    source = 'rtsp://host/a?b="c"'
    pi.do(install_steps(pi.machine, Wishes(camera=source), wheel))
    changed = [line for line in pi.config().read_text().splitlines() if line not in example().splitlines()]
    assert [tomllib.loads(line) for line in changed] == [{"source": source}]
    assert load_config(pi.config(), {}) == Config(camera=CameraSettings(source=source))


def test_a_second_installation_has_nothing_to_do(pi: Pi, wheel: Origin) -> None:
    wishes = Wishes(camera="demo")
    pi.do(install_steps(pi.machine, wishes, wheel))
    assert install_steps(pi.machine, wishes, wheel) == []


@pytest.mark.parametrize("kind", ["wheel", "clone"])
def test_another_program_than_is_installed_is_refused(pi: Pi, wheel: Origin, kind: str) -> None:
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    other = newer(wheel) if kind == "wheel" else origin_at(UNITS.parent)
    with pytest.raises(InputError, match=f"another program is installed than {other.requirement}; to replace it: "):
        install_steps(pi.machine, Wishes(), other)


def test_to_plan_changes_nothing(pi: Pi, wheel: Origin) -> None:
    before = pi.files()
    assert install_steps(pi.machine, Wishes(), wheel)
    assert pi.files() == before


@pytest.mark.parametrize("word", ["venv", "pip", "chgrp", "daemon-reload", "enable", "start"])
def test_an_installation_that_fails_leaves_the_machine_as_it_was(
    pi: Pi, wheel: Origin, tmp_path: Path, word: str
) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    (pi.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    before = pi.files()
    pi.fails = word
    with pytest.raises(ServiceError):
        pi.do(install_steps(pi.machine, Wishes(password_file=password), wheel))
    assert pi.files() == before
    assert not pi.active


def test_a_service_that_does_not_become_ready_is_told_by_its_last_words(pi: Pi, wheel: Origin) -> None:
    pi.fails = "start"
    with pytest.raises(ServiceError, match="did not become ready; its last words: fer-edge: no camera found"):
        pi.do(install_steps(pi.machine, Wishes(), wheel))


def test_a_configuration_that_is_there_stays_as_its_owner_wrote_it(pi: Pi, wheel: Origin) -> None:
    pi.config().parent.mkdir(parents=True)
    pi.config().write_text('# mine\ncamera.source = "demo"\n')
    pi.do(install_steps(pi.machine, Wishes(camera="demo"), wheel))
    assert pi.config().read_text() == '# mine\ncamera.source = "demo"\n'
    with pytest.raises(InputError, match=r"another camera\.source than --camera"):
        install_steps(pi.machine, Wishes(camera="/dev/video2"), wheel)
    with pytest.raises(InputError, match=r"another mqtt\.url than --mqtt"):
        install_steps(pi.machine, Wishes(mqtt="mqtt://elsewhere"), wheel)


def test_a_configuration_of_ones_own_is_checked_and_taken_as_it_is(pi: Pi, wheel: Origin, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[camera]\nsorce = 1\n")
    with pytest.raises(InputError, match="did you mean"):
        install_steps(pi.machine, Wishes(config=own), wheel)
    own.write_text("# mine\nthreads = 2\n")
    pi.do(install_steps(pi.machine, Wishes(config=own), wheel))
    assert pi.config().read_text() == own.read_text()
    own.write_text("threads = 3\n")
    with pytest.raises(InputError, match="another content than --config"):
        install_steps(pi.machine, Wishes(config=own), wheel)


def test_the_password_that_is_given_goes_before_the_one_that_the_configuration_names(
    pi: Pi, wheel: Origin, tmp_path: Path
) -> None:
    own, password = tmp_path / "own.toml", tmp_path / "password.txt"
    own.write_text('# mine\n[mqtt]\nurl = "mqtt://ada@broker"\npassword_file = "password.txt"\n')
    password.write_text("secret")
    with pytest.raises(
        InputError, match=r"mqtt\.password_file 'password\.txt': .*; give the file with --password-file"
    ):
        install_steps(pi.machine, Wishes(config=own), wheel)
    wishes = Wishes(config=own, password_file=password)
    pi.do(install_steps(pi.machine, wishes, wheel))
    assert pi.config().read_text() == '# mine\n[mqtt]\nurl = "mqtt://ada@broker"\n'
    assert install_steps(pi.machine, wishes, wheel) == []
    pi.config().write_text('[mqtt]\npassword_file = "/srv/password"\n')
    with pytest.raises(InputError, match=r"another mqtt\.password_file than --password-file gives"):
        install_steps(pi.machine, Wishes(password_file=password), wheel)


@pytest.mark.parametrize(
    "text",
    [
        'model = "mine.tflite"',
        'model = "models/mine"',
        'faces.detector_model = "faces.tflite"',
        'mqtt.ca_file = "ca.pem"',
        'mqtt.ca_file = "~/ca.pem"',
        'camera.source = "videos/one.mp4"',
    ],
)
def test_a_path_that_is_not_whole_is_refused(pi: Pi, wheel: Origin, tmp_path: Path, text: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f"{text}\n")
    with pytest.raises(InputError, match=f"^{re.escape(text.split(maxsplit=1)[0])} .*give the whole path"):
        install_steps(pi.machine, Wishes(config=own), wheel)


@pytest.mark.parametrize("path", ["events.sqlite", "/run/a.sqlite", "/var/lib/a.sqlite", "/var/lib/fer-edge/a.sqlite"])
def test_an_outbox_that_the_service_cannot_write_is_refused(pi: Pi, wheel: Origin, tmp_path: Path, path: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(f'outbox.path = "{path}"\n')
    with pytest.raises(InputError, match="the service writes into /var/lib/fer-edge@hall alone; leave it out"):
        install_steps(pi.machine, Wishes(config=own, instance="hall"), wheel)
    own.write_text('outbox.path = "/var/lib/fer-edge@hall/events.sqlite"\n')
    assert install_steps(pi.machine, Wishes(config=own, instance="hall"), wheel)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        (Wishes(config=Path("x.toml"), camera="demo"), "--config goes without"),
        (Wishes(config=Path("/nonexistent/x.toml")), "cannot be read"),
        (Wishes(mqtt="mqtt://pi:secret@broker"), "use --password-file"),
        (Wishes(mqtt="mqtt://pi:[secret@broker"), "use --password-file"),
        (Wishes(camera="rtsp://pi:secret/@host/a"), "write it as camera.source"),
        (Wishes(password_file=Path("/nonexistent/password")), "/nonexistent/password: cannot be read"),
        (Wishes(password_file=Path("/dev/null")), "no password in it"),
        (Wishes(camera="/home/pi/video.mp4"), "the service sees nothing of that folder"),
        (Wishes(camera="video.mp4"), "camera.source 'video.mp4': the service looks for it in /, not here"),
        (Wishes(instance="a/b"), "--instance 'a/b'"),
        (Wishes(instance="config"), "--instance 'config'"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused_before_anything_is_done(
    pi: Pi, wheel: Origin, wishes: Wishes, said: str
) -> None:
    before = pi.files()
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        install_steps(pi.machine, wishes, wheel)
    assert "secret" not in str(caught.value)
    assert pi.files() == before


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("3 9 True True False", "is Python 3.9; fer-edge needs 3.11"),
        ("3 11 True False False", "sudo apt install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_told(pi: Pi, wheel: Origin, python: str, said: str) -> None:
    pi.python = python
    with pytest.raises(InputError, match=re.escape(said)):
        install_steps(pi.machine, Wishes(), wheel)


def test_without_systemd_there_is_no_service(tmp_path: Path, wheel: Origin) -> None:
    with pytest.raises(InputError, match="systemd does not run on this machine"):
        install_steps(Machine(tmp_path), Wishes(), wheel)


def test_a_masked_unit_is_not_written_through(pi: Pi, wheel: Origin) -> None:
    unit = pi.root / "etc/systemd/system/fer-edge.service"
    unit.symlink_to("/dev/null")
    with pytest.raises(InputError, match=r"systemctl unmask fer-edge\.service"):
        install_steps(pi.machine, Wishes(), wheel)


def test_the_environment_sees_the_systems_packages_where_picamera2_is_one(pi: Pi, wheel: Origin) -> None:
    pi.python = "3 11 True True True"
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    assert any("--system-site-packages" in command for command in pi.commands)
    pi.python = "3 11 True True False"  # and goes on doing so
    pi.do(upgrade_steps(pi.machine, newer(wheel)))
    assert "true" in (pi.root / "opt/fer-edge/current/pyvenv.cfg").read_text()


def test_the_password_is_for_root_alone_and_a_new_one_restarts_the_service(
    pi: Pi, wheel: Origin, tmp_path: Path
) -> None:
    given, kept = tmp_path / "password", pi.root / "etc/credstore/fer-edge.mqtt-password"
    given.write_text("old")
    pi.do(install_steps(pi.machine, Wishes(password_file=given), wheel))
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("old", 0o600)
    assert kept.parent.stat().st_mode & 0o777 == 0o700

    given.write_text("new")
    renewal = install_steps(pi.machine, Wishes(password_file=given), wheel)
    assert [step.what.partition(" ")[0] for step in renewal] == ["stop", "write", "start"]
    pi.fails = "start"
    with pytest.raises(ServiceError):
        pi.do(renewal)
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("old", 0o600)
    assert not any("secret" in " ".join(command) or "new" in command for command in pi.commands)


def test_several_cameras_have_a_unit_and_a_configuration_each(pi: Pi, wheel: Origin) -> None:
    for name, camera in (("door", "0"), ("hall.2", "2")):
        pi.do(install_steps(pi.machine, Wishes(instance=name, camera=camera), wheel))
    assert enabled_units(pi.machine) == ["fer-edge@door.service", "fer-edge@hall.2.service"] == sorted(pi.active)
    assert [load_config(pi.config(name), {}).camera.source for name in ("door", "hall.2")] == ["0", "2"]

    pi.do(uninstall_steps(pi.machine, "door", purge=True))
    assert pi.active == {"fer-edge@hall.2.service"}
    assert not pi.config("door").exists()
    assert pi.config("hall.2").exists()
    assert (pi.root / "etc/systemd/system/fer-edge@.service").exists()

    pi.do(uninstall_steps(pi.machine, "hall.2", purge=False))  # the last
    assert not (pi.root / "etc/systemd/system/fer-edge@.service").exists()
    pi.do(uninstall_steps(pi.machine, "door", purge=True))
    assert pi.config("hall.2").exists()


def test_an_upgrade_runs_the_new_program_and_keeps_the_old(pi: Pi, wheel: Origin) -> None:
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    for number in ("2", "3"):
        origin = newer(wheel)
        pi.do(upgrade_steps(pi.machine, origin))
        assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs") / number
        assert upgrade_steps(pi.machine, origin) == []
    assert [path.name for path in Venvs(pi.machine).all()] == ["2", "3"]
    assert pi.active == {"fer-edge.service"}


def test_a_unit_that_runs_though_it_is_not_enabled_is_upgraded_and_told_of(
    pi: Pi, wheel: Origin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pi.do(install_steps(pi.machine, Wishes(instance="hall"), wheel))
    pi.run("systemctl", "disable", "fer-edge@hall.service")
    pi.commands.clear()
    pi.do(upgrade_steps(pi.machine, newer(wheel)))
    verbs = [command[1] for command in pi.commands if command[2:] == ("fer-edge@hall.service",)]
    assert verbs == ["stop", "start"]
    monkeypatch.setattr(systemd_units, "Machine", lambda: pi.machine)
    status()
    assert "fer-edge@hall.service: active" in capsys.readouterr().out


def test_a_unit_whose_camera_is_unplugged_keeps_no_upgrade_back(pi: Pi, wheel: Origin) -> None:
    for name in ("door", "hall"):
        pi.do(install_steps(pi.machine, Wishes(instance=name), wheel))
    pi.unplugged = {"fer-edge@door.service"}
    pi.do(upgrade_steps(pi.machine, newer(wheel)))
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")

    steps = upgrade_steps(pi.machine, newer(wheel))
    pi.unplugged.add("fer-edge@hall.service")  # with the new program, of which it is expected
    said: list[str] = []
    with pytest.raises(ServiceError, match=r"fer-edge@hall\.service did not become ready"):
        carry_out(steps, said.append)
    assert not [line for line in said if line.startswith("could not take back: stop fer-edge@door")]
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")
    assert pi.active == {"fer-edge@door.service", "fer-edge@hall.service"}


@pytest.mark.parametrize("word", ["venv", "pip", "stop", "start"])
def test_an_upgrade_that_fails_goes_back_to_the_old_program(pi: Pi, wheel: Origin, word: str) -> None:
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    before = pi.files()
    steps = upgrade_steps(pi.machine, newer(wheel))
    pi.commands.clear()
    pi.fails = word
    with pytest.raises(ServiceError):
        pi.do(steps)
    assert pi.files() == before
    if word == "start":  # the old one was to be started as well, from what it was
        assert pi.commands[-1] == ("systemctl", "start", "fer-edge.service")


@pytest.mark.parametrize("way", ["upgrade", "install", "deploy"])
def test_a_program_that_an_upgrade_of_the_system_broke_is_made_anew(pi: Pi, wheel: Origin, way: str) -> None:
    def steps() -> list[Step]:
        if way == "upgrade":
            return upgrade_steps(pi.machine, wheel)
        return install_steps(pi.machine, Wishes(replace=way == "deploy"), wheel)

    pi.do(install_steps(pi.machine, Wishes(), wheel))
    pi.do(install_steps(pi.machine, Wishes(instance="hall"), wheel))
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
    said = pi.do(steps())
    assert said[0] == (
        f"make {new} from {wheel.requirement} (a few minutes on a small Pi), because {broken} does not run"
        " (python: ModuleNotFoundError: No module named 'fer_edge_device')"
    )
    assert [command[2] for command in pi.commands if command[:2] == ("systemctl", "start")] == sorted(pi.active)
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")
    assert steps() == []


def test_the_status_names_a_program_that_does_not_run(
    pi: Pi, wheel: Origin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    monkeypatch.setattr(systemd_units, "Machine", lambda: pi.machine)
    status()
    assert "does not run" not in capsys.readouterr().out
    pi.python = "3 13 True True False"
    status()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("fer-edge 0.1.0 in ")
    assert said[1].endswith(f"'fer_edge_device'); to make it anew: sudo {this_program()} service upgrade")


def test_an_environment_whose_python_or_packages_have_gone_does_not_run(tmp_path: Path) -> None:
    venvs, path = Venvs(Machine(tmp_path)), tmp_path / "venv"
    assert not venvs.trouble(Path(sys.prefix))
    venv.create(path, symlinks=True)
    said = venvs.trouble(path)
    assert "does not run (python: ModuleNotFoundError: No module named 'fer_edge_device')" in said
    (path / "bin/python").unlink()
    (path / "bin/python").symlink_to("/nonexistent/python3.11")
    assert "cannot be run (No such file or directory)" in venvs.trouble(path)


def test_a_file_that_is_taken_back_has_its_owner_and_permissions_again(pi: Pi, wheel: Origin, tmp_path: Path) -> None:
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    owned = [pi.config(), pi.root / "etc/systemd/system/fer-edge.service"]
    for path in owned:
        path.write_text(f"threads = 2  # {path.name}")
        path.chmod(0o604)
        if os.geteuid() == 0:
            os.chown(path, 12, 34)

    def seen() -> list[tuple[str, int, int, int]]:
        return [(path.read_text(), (at := path.stat()).st_mode, at.st_uid, at.st_gid) for path in owned]

    before = seen()
    other = tmp_path / "other.toml"
    other.write_text("threads = 3\n")
    pi.fails = "start"
    with pytest.raises(ServiceError):
        pi.do(install_steps(pi.machine, Wishes(config=other, replace=True), wheel))
    assert seen() == before


def test_everybody_finds_the_command_and_it_goes_with_the_service(pi: Pi, wheel: Origin) -> None:
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    command = pi.root / "usr/local/bin/fer-edge"
    assert command.readlink() == pi.root / "opt/fer-edge/current/bin/fer-edge"  # and so follows an upgrade

    command.unlink()  # as an earlier version left it
    assert [step.what for step in install_steps(pi.machine, Wishes(), wheel)] == [
        f"point {command} at {pi.root}/opt/fer-edge/current/bin/fer-edge"
    ]
    pi.do(upgrade_steps(pi.machine, newer(wheel)))
    assert command.is_symlink()

    pi.fails = "daemon-reload"
    with pytest.raises(ServiceError):
        pi.do(uninstall_steps(pi.machine, None, purge=False))
    pi.fails = None
    assert command.is_symlink()
    pi.do(uninstall_steps(pi.machine, None, purge=False))
    assert not command.is_symlink()


@pytest.mark.parametrize("is_link", [False, True], ids=["file", "link"])
def test_a_command_of_somebody_elses_stays(pi: Pi, wheel: Origin, *, is_link: bool) -> None:
    command = pi.root / "usr/local/bin/fer-edge"
    if is_link:
        command.symlink_to("/home/ada/bin/fer-edge")  # which need not be there
    else:
        command.write_text("theirs")
    pi.do(install_steps(pi.machine, Wishes(), wheel))
    pi.do(uninstall_steps(pi.machine, None, purge=True))
    assert command.is_symlink() == is_link
    assert is_link or command.read_text() == "theirs"


def test_there_is_nothing_to_upgrade_where_nothing_is_installed(pi: Pi, wheel: Origin) -> None:
    with pytest.raises(InputError, match=f"sudo {re.escape(this_program())} service install"):
        upgrade_steps(pi.machine, wheel)


def test_to_uninstall_keeps_what_is_the_users_and_to_purge_does_not(pi: Pi, wheel: Origin, tmp_path: Path) -> None:
    (pi.root / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    (pi.root / "etc/credstore").mkdir()
    password = tmp_path / "password"
    password.write_text("secret")
    before = pi.files()
    pi.do(install_steps(pi.machine, Wishes(password_file=password), wheel))
    state = pi.root / "var/lib/private/fer-edge"
    state.mkdir()
    (pi.root / "var/lib/fer-edge").symlink_to("private/fer-edge")

    pi.do(uninstall_steps(pi.machine, None, purge=False))
    assert (enabled_units(pi.machine), pi.active) == ([], set())
    assert pi.config().exists()
    assert state.exists()
    assert not (pi.root / "etc/systemd/system/fer-edge.service").exists()
    assert uninstall_steps(pi.machine, None, purge=False) == []

    pi.do(uninstall_steps(pi.machine, None, purge=True))
    assert pi.files() == before
    assert uninstall_steps(pi.machine, None, purge=True) == []


def fail() -> None:
    raise ServiceError("no")


def test_what_was_done_is_taken_back_last_first_and_all_of_it() -> None:
    done: list[str] = []

    steps = [
        Step("a", lambda: done.append("a"), lambda: done.append("not a")),
        Step("b", lambda: done.append("b"), fail),
        Step("c", fail, lambda: done.append("not c")),
    ]
    said: list[str] = []
    with pytest.raises(ServiceError, match="no"):
        carry_out(steps, said.append)
    assert done == ["a", "b", "not c", "not a"]
    assert said[-3:] == ["taking back: b", "could not take back: b: no", "taking back: a"]


def test_a_terminal_that_has_gone_keeps_nothing_from_being_taken_back() -> None:
    done: list[str] = []

    def gone(line: str) -> None:
        raise BrokenPipeError(line)

    steps = [
        Step("a", lambda: done.append("a"), lambda: done.append("not a")),
        Step("b", fail, lambda: done.append("not b")),
    ]
    with pytest.raises(ServiceError):
        carry_out(steps, gone)
    assert done == ["a", "not b", "not a"]


def test_after_what_cannot_be_taken_back_nothing_is() -> None:
    done: list[str] = []

    steps = [
        Step("a", lambda: done.append("a"), lambda: done.append("not a")),
        Step("remove", lambda: done.append("gone"), None),
        Step("remove more", fail, None),
    ]
    with pytest.raises(ServiceError):
        carry_out(steps, lambda _: None)
    assert done == ["a", "gone"]


def test_an_origin_is_a_wheel_or_a_clone_and_by_default_what_runs(tmp_path: Path, wheel: Origin) -> None:
    assert wheel.sha256 == hashlib.sha256(Path(wheel.requirement).read_bytes()).hexdigest()
    clone = UNITS.parent
    assert origin_at(clone) == Origin(str(clone))
    with pytest.raises(InputError, match="neither a wheel nor"):
        origin_at(tmp_path)
    # The tests run from an installation of a clone.
    assert (Path(own_origin().requirement) / "systemd/fer-edge.service").exists()


def test_a_unit_is_named_after_its_camera() -> None:
    assert unit_name(None) == "fer-edge.service"
    assert unit_name("living-room") == "fer-edge@living-room.service"


def test_a_program_that_fails_is_told_by_its_last_line() -> None:
    with pytest.raises(ServiceError, match=r"^sh: second$"):
        run_program("sh", "-c", "echo first >&2; echo second >&2; exit 3")
    with pytest.raises(ServiceError, match="cannot be run"):
        run_program("/nonexistent/systemctl")


def test_advice_names_the_program_that_gives_it_by_its_whole_path(
    pi: Pi, wheel: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/fer-edge", "service", "upgrade"])
    with pytest.raises(InputError, match=f"sudo {tmp_path}/bin/fer-edge service install"):
        upgrade_steps(pi.machine, wheel)
    monkeypatch.setattr(sys, "argv", ["/srv/fer_edge/cli/__main__.py", "service", "upgrade"])
    with pytest.raises(InputError, match=f"sudo {sys.executable} -m fer_edge.cli service install"):
        upgrade_steps(pi.machine, wheel)


def test_only_root_may_install_but_anybody_may_see_what_it_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd_units, "is_root", lambda: False)
    with pytest.raises(InputError, match="run it as root: sudo /"), machine_to_change(dry_run=False):
        pass
    with machine_to_change(dry_run=True) as machine:
        assert machine.root == Path("/")


def test_only_one_may_change_a_machine_at_a_time(pi: Pi) -> None:
    with pi.machine.reserved():
        with pytest.raises(ServiceError, match="by another; try again afterwards"), pi.machine.reserved():
            pass
        left = subprocess.Popen(["sleep", "600"])  # noqa: S607
    with pi.machine.reserved():  # whatever was started meanwhile and has not ended
        left.kill()
        left.wait()
