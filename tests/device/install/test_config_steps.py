"""Install a configuration and a password in a scratch folder."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import InputError, ServiceError
from fer_edge_device.config.load import load_config
from fer_edge_device.config.render import example
from fer_edge_device.config.settings import CameraSettings, Config
from fer_edge_device.install.installer import install_steps
from fer_edge_device.install.options import InstallOptions

if TYPE_CHECKING:
    from fer_edge_device.install.program_source import ProgramSource
    from tests.device.machines import Pi


def test_writes_the_example_with_the_given_options(pi: Pi, wheel: ProgramSource) -> None:
    source = 'rtsp://host/a?b="c"'
    pi.do(install_steps(pi.host, InstallOptions(camera=source), wheel))
    changed = [line for line in pi.config().read_text().splitlines() if line not in example().splitlines()]
    assert [tomllib.loads(line) for line in changed] == [{"source": source}]
    assert load_config(pi.config(), {}) == Config(camera=CameraSettings(source=source))


def test_never_overwrites_a_configuration(pi: Pi, wheel: ProgramSource) -> None:
    pi.config().parent.mkdir(parents=True)
    pi.config().write_text('# mine\ncamera.source = "demo"\n')
    pi.do(install_steps(pi.host, InstallOptions(camera="demo"), wheel))
    assert pi.config().read_text() == '# mine\ncamera.source = "demo"\n'
    with pytest.raises(InputError, match=r"another camera\.source than --camera"):
        install_steps(pi.host, InstallOptions(camera="/dev/video2"), wheel)
    with pytest.raises(InputError, match=r"another mqtt\.url than --mqtt"):
        install_steps(pi.host, InstallOptions(mqtt="mqtt://elsewhere"), wheel)


def test_checks_a_given_configuration_and_installs_it_unchanged(pi: Pi, wheel: ProgramSource, tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    config.write_text("[camera]\nsorce = 1\n")
    with pytest.raises(InputError, match="did you mean"):
        install_steps(pi.host, InstallOptions(config=config), wheel)
    config.write_text("# mine\nthreads = 2\n")
    pi.do(install_steps(pi.host, InstallOptions(config=config), wheel))
    assert pi.config().read_text() == config.read_text()
    config.write_text("threads = 3\n")
    with pytest.raises(InputError, match="another content than --config"):
        install_steps(pi.host, InstallOptions(config=config), wheel)


def test_a_given_password_replaces_that_of_the_configuration(pi: Pi, wheel: ProgramSource, tmp_path: Path) -> None:
    config, password = tmp_path / "own.toml", tmp_path / "password.txt"
    config.write_text('# mine\n[mqtt]\nurl = "mqtt://ada@broker"\npassword_file = "password.txt"\n')
    password.write_text("secret")
    with pytest.raises(
        InputError, match=r"mqtt\.password_file 'password\.txt': .*; give the file with --password-file"
    ):
        install_steps(pi.host, InstallOptions(config=config), wheel)
    options = InstallOptions(config=config, password_file=password)
    pi.do(install_steps(pi.host, options, wheel))
    assert pi.config().read_text() == '# mine\n[mqtt]\nurl = "mqtt://ada@broker"\n'
    assert install_steps(pi.host, options, wheel) == []
    pi.config().write_text('[mqtt]\npassword_file = "/srv/password"\n')
    with pytest.raises(InputError, match=r"another mqtt\.password_file than --password-file gives"):
        install_steps(pi.host, InstallOptions(password_file=password), wheel)


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
def test_refuses_relative_paths(pi: Pi, wheel: ProgramSource, tmp_path: Path, text: str) -> None:
    config = tmp_path / "own.toml"
    config.write_text(f"{text}\n")
    with pytest.raises(InputError, match=f"^{re.escape(text.split(maxsplit=1)[0])} .*give the full path"):
        install_steps(pi.host, InstallOptions(config=config), wheel)


def test_refuses_an_empty_password(pi: Pi, wheel: ProgramSource, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(InputError, match="empty: contains no password"):
        install_steps(pi.host, InstallOptions(password_file=tmp_path / "empty"), wheel)


@pytest.mark.parametrize("path", ["events.sqlite", "/run/a.sqlite", "/var/lib/a.sqlite", "/var/lib/fer-edge/a.sqlite"])
def test_refuses_an_outbox_that_the_service_cannot_write(
    pi: Pi, wheel: ProgramSource, tmp_path: Path, path: str
) -> None:
    config = tmp_path / "own.toml"
    config.write_text(f'outbox.path = "{path}"\n')
    with pytest.raises(InputError, match="the service can write only to /var/lib/fer-edge@hall; remove the key"):
        install_steps(pi.host, InstallOptions(config=config, instance="hall"), wheel)
    config.write_text('outbox.path = "/var/lib/fer-edge@hall/events.sqlite"\n')
    assert install_steps(pi.host, InstallOptions(config=config, instance="hall"), wheel)


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (InstallOptions(config=Path("x.toml"), camera="demo"), "--config cannot be combined with"),
        (InstallOptions(config=Path("/nonexistent/x.toml")), "cannot be read"),
        (InstallOptions(mqtt="mqtt://pi:secret@broker"), "use --password-file"),
        (InstallOptions(mqtt="mqtt://pi:[secret@broker"), "use --password-file"),
        (InstallOptions(camera="rtsp://pi:secret/@host/a"), "write the address into a file as camera.source"),
        (InstallOptions(password_file=Path("/nonexistent/password")), "/nonexistent/password: cannot be read"),
        (InstallOptions(password_file=Path("/dev/null")), "/dev/null: not a regular file"),
        (InstallOptions(camera="/home/pi/video.mp4"), "the service cannot see this folder"),
        (InstallOptions(camera="video.mp4"), "camera.source 'video.mp4': the service runs in / and does not find it"),
        (InstallOptions(instance="a/b"), "--instance 'a/b'"),
        (InstallOptions(instance="config"), "--instance 'config'"),
    ],
)
def test_refuses_wrong_options_before_anything_is_changed(
    pi: Pi, wheel: ProgramSource, options: InstallOptions, output: str
) -> None:
    before = pi.files()
    with pytest.raises(InputError, match=re.escape(output)) as caught:
        install_steps(pi.host, options, wheel)
    assert "secret" not in str(caught.value)
    assert pi.files() == before


def test_password_is_private_and_a_new_one_restarts_the_service(pi: Pi, wheel: ProgramSource, tmp_path: Path) -> None:
    password_file, installed = tmp_path / "password", pi.root / "etc/credstore/fer-edge.mqtt-password"
    password_file.write_text("old")
    pi.do(install_steps(pi.host, InstallOptions(password_file=password_file), wheel))
    assert (installed.read_text(), installed.stat().st_mode & 0o777) == ("old", 0o600)
    assert installed.parent.stat().st_mode & 0o777 == 0o700

    password_file.write_text("new")
    renewal = install_steps(pi.host, InstallOptions(password_file=password_file), wheel)
    assert [step.description.partition(" ")[0] for step in renewal] == ["stop", "write", "start"]
    pi.fails = "start"
    with pytest.raises(ServiceError):
        pi.do(renewal)
    assert (installed.read_text(), installed.stat().st_mode & 0o777) == ("old", 0o600)
    assert not any("secret" in " ".join(command) or "new" in command for command in pi.commands)
