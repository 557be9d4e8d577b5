"""Deploying over a real sshd to scratch hosts, whose systemd, sudo and program are stand-ins."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fer_edge
from fer_edge.classify import DEFAULT_MODEL
from fer_edge.errors import InputError
from fer_edge_device.deploy import Outcome, build_wheel, deploy, fitted, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cli

HERE = Path(__file__).parent
PASSWORD = "a word that nobody may see"  # noqa: S105


@dataclass(frozen=True)
class Host:
    """A scratch host: what its root folder holds, and where its temporary files go."""

    name: str
    root: Path
    temporary: Path
    ssh_config: Path

    @property
    def config(self) -> Path:
        return self.root / "etc/fer-edge/config.toml"

    def log(self) -> list[str]:
        return (self.root / "log").read_text().splitlines()

    def put_program(self, version: str = "9.8.0") -> None:
        """A program that was deployed before."""
        program = self.root / "opt/fer-edge/venvs/1/bin/fer-edge"
        program.parent.mkdir(parents=True)
        source = (HERE / "stand_in_service.py").read_text().replace("9.9.0", version)
        # What an upgrade puts there is the new one.
        program.write_text(f"#!{sys.executable}\n{source}")
        program.chmod(0o755)
        (self.root / "opt/fer-edge/current").symlink_to("venvs/1")

    def current(self) -> str:
        return os.readlink(self.root / "opt/fer-edge/current")  # noqa: PTH115 - as it is

    def wait_until_clean(self) -> None:
        until = time.monotonic() + 60
        while left := list(self.temporary.iterdir()):
            assert time.monotonic() < until, left
            time.sleep(0.05)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[[str], Host]]:
    """Start a private sshd on the loopback device for each host, and say how it is reached."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd, "these tests need sshd: sudo apt install openssh-server"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it shuts itself in
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)  # noqa: S607
    ssh_config = tmp_path / "ssh_config"
    ssh_config.touch()
    servers = []

    def make(name: str) -> Host:
        folder = tmp_path / name
        host = Host(name, folder / "root", folder / "tmp", ssh_config)
        for path in (host.root, host.temporary, folder / "bin"):
            path.mkdir(parents=True)
        script(folder / "bin/sudo", '[ "$1" = -n ] || exit 1\nshift\nexec "$@"')
        script(folder / "bin/systemctl", 'echo "systemctl $*" >>"$DEPLOY_ROOT/log"')
        # A real venv and a real pip, but not pip's own installation, which takes the time of all the rest.
        base = sys._base_executable  # type: ignore[attr-defined]
        pip = f'exec {sys.executable} -m pip --python "${{0%/*}}/python" "$@"'
        script(
            folder / "bin/python3",
            f'{base} -m venv --without-pip "$3" && cp {folder}/pip "$3/bin/pip"',
        )
        script(folder / "pip", pip)
        # Whatever the user's shell sets up for itself is set back.
        script(
            folder / "shell",
            f"export PATH={folder}/bin:/usr/bin:/bin TMPDIR={host.temporary} DEPLOY_ROOT={host.root}\n"
            'case "$SSH_ORIGINAL_COMMAND" in */sftp-server) exec $SSH_ORIGINAL_COMMAND;; esac\n'
            'exec sh -c "$SSH_ORIGINAL_COMMAND"',
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host_key\nPidFile none\n"
            f"AuthorizedKeysFile {tmp_path}/user_key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
            "PasswordAuthentication no\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
            f"ForceCommand {folder}/shell\n"
        )
        log = folder / "sshd.log"
        servers.append(subprocess.Popen([sshd, "-D", "-f", folder / "sshd_config", "-E", log]))
        with ssh_config.open("a") as file:
            file.write(
                f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
                f" IdentityFile {tmp_path}/user_key\n IdentitiesOnly yes\n UserKnownHostsFile /dev/null\n"
                " StrictHostKeyChecking no\n LogLevel ERROR\n"
            )
        until = time.monotonic() + 60
        while "listening" not in (log.read_text() if log.exists() else ""):
            assert time.monotonic() < until
            time.sleep(0.02)
        return host

    yield make
    for server in servers:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of our name that needs nothing from a package index."""
    path = tmp_path_factory.mktemp("wheel") / "fer_edge-9.9.0-py3-none-any.whl"
    info = "fer_edge-9.9.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(HERE / "stand_in_service.py", "stand_in_service.py")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: fer-edge\nVersion: 9.9.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\nfer-edge = stand_in_service:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def quietly(host: str, step: str) -> None:
    del host, step


def test_a_bare_host_and_one_that_has_an_older_program(
    make_host: Callable[[str], Host], wheel: Path, cli: Cli, tmp_path: Path
) -> None:
    bare, older = make_host("bare"), make_host("older")
    older.put_program()
    model = tmp_path / "my model.tflite"
    shutil.copy(DEFAULT_MODEL, model)
    (tmp_path / "secret").write_text(PASSWORD)
    config = tmp_path / "config.toml"
    config.write_text(
        '# mine\nnode = "hall"\nmodel = "edge"\n[mqtt]\nurl = "mqtt://ada@broker"\npassword_file = "secret"\n'
    )
    options = ("--wheel", wheel, "--model", model, "--config", config, "--ssh-config", bare.ssh_config)
    done = cli("deploy", "bare", "older", *options)
    said = done.stdout + done.stderr
    table = done.stdout.splitlines()[-3:]
    assert table[0].split() == ["host", "version", "classifier", "frame", "outcome"]
    assert table[1].split() == ["bare", "9.9.0", "1.25", "ms", "1.25", "ms", "ready"]
    assert table[2].split() == ["older", "9.8.0", "1.25", "ms", "1.25", "ms", "ready"]
    assert "bare: A Pi, some 1.0, /etc/fer-edge/models/my-model.tflite" in said
    assert "bare: make a temporary environment" in said
    assert "older: make a temporary environment" not in said
    assert PASSWORD not in said
    assert bare.log()[0] == "9.9.0 service install"
    assert older.log()[:2] == ["9.8.0 service upgrade", "9.8.0 service install"]
    for host in (bare, older):
        assert (host.root / "etc/fer-edge/models/my-model.tflite").read_bytes() == DEFAULT_MODEL.read_bytes()
        assert host.config.read_text() == (
            'model = "/etc/fer-edge/models/my-model.tflite"\n# mine\nnode = "hall"\n[mqtt]\nurl = "mqtt://ada@broker"\n'
        )
        secret = host.root / "etc/credstore/fer-edge.mqtt-password"
        assert (secret.read_text(), secret.stat().st_mode & 0o777) == (PASSWORD, 0o600)
        host.wait_until_clean()


def test_a_host_that_does_not_come_up_gets_back_what_it_had(make_host: Callable[[str], Host], wheel: Path) -> None:
    host = make_host("host")
    host.put_program()
    host.config.parent.mkdir(parents=True)
    host.config.write_text('node = "as it was"\n')
    config = host.root.parent / "broken.toml"
    config.write_text('node = "broken"\n')
    told: list[tuple[str, str]] = []
    (outcome,) = deploy(
        ["host"],
        pack(wheel, config=config, model=DEFAULT_MODEL),
        told=lambda host, step: told.append((host, step)),
        ssh_config=host.ssh_config,
    )
    assert (outcome.host, outcome.version, outcome.failed, outcome.measured) == ("host", "", "upgrade", None)
    assert "its last words: no camera found" in "\n".join(outcome.said)
    assert told[-1] == ("host", "take it back")
    assert host.config.read_text() == 'node = "as it was"\n'
    assert not list(host.root.glob("etc/fer-edge/models/*"))
    assert host.current() == "venvs/1"
    assert host.log()[-1] == "systemctl restart fer-edge.service"
    host.wait_until_clean()


def test_a_first_install_that_fails_leaves_nothing_and_does_not_stop_the_others(
    make_host: Callable[[str], Host], wheel: Path
) -> None:
    bare, other = make_host("bare"), make_host("other")
    other.put_program()
    script(other.root.parent / "bin/sudo", "echo 'sudo: a password is required' >&2; exit 1")
    config = bare.root.parent / "broken.toml"
    config.write_text('node = "broken"\n')
    gone, absent = ("gone", "absent")
    with bare.ssh_config.open("a") as file:
        file.write(f"Host {gone}\n HostName 127.0.0.1\n Port 1\n")
    hosts = ["bare", "other", gone]
    first, second, third = deploy(hosts, pack(wheel, config=config), told=quietly, ssh_config=bare.ssh_config)
    assert first.failed == "install and wait until it is ready"
    assert bare.log()[-1] == "9.9.0 service uninstall"
    assert not bare.config.exists()
    assert (second.failed, second.said[-1]) == (
        "look",
        "sudo wants a password here; let this user do without: sudo visudo",
    )
    assert third.failed == "connect"
    assert "Connection refused" in third.said[0]
    with pytest.raises(InputError, match="Could not resolve hostname"):
        deploy(["other", f"{absent}.invalid"], pack(wheel), told=quietly, ssh_config=bare.ssh_config)
    for host in (bare, other):
        host.wait_until_clean()


def test_a_host_with_a_unit_for_each_camera_gets_the_program_alone(
    make_host: Callable[[str], Host], wheel: Path
) -> None:
    host = make_host("host")
    host.put_program()
    wants = host.root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "fer-edge@hall.service").touch()
    (refused,) = deploy(["host"], pack(wheel, model=DEFAULT_MODEL), told=quietly, ssh_config=host.ssh_config)
    assert "a unit for each camera" in refused.said[-1]
    (outcome,) = deploy(["host"], pack(wheel), told=quietly, ssh_config=host.ssh_config)
    assert outcome.failed == ""
    assert [line for line in host.log() if "service" in line] == ["9.8.0 service upgrade"]


def test_a_model_alone_goes_into_the_hosts_own_configuration(make_host: Callable[[str], Host], wheel: Path) -> None:
    host = make_host("host")
    host.put_program("9.9.0")
    host.config.parent.mkdir(parents=True)
    host.config.write_text('# theirs\n[camera]\nsource = "demo"\n')
    (outcome,) = deploy(["host"], pack(wheel, model=Path("edge-plus")), told=quietly, ssh_config=host.ssh_config)
    assert isinstance(outcome, Outcome)
    assert (outcome.failed, outcome.said) == ("", ())
    assert outcome.measured
    assert outcome.measured.model == "edge-plus"
    assert host.config.read_text() == 'model = "edge-plus"\n# theirs\n[camera]\nsource = "demo"\n'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "killed"])
def test_a_deployment_that_is_stopped_leaves_no_files_there(
    make_host: Callable[[str], Host], wheel: Path, number: signal.Signals
) -> None:
    host = make_host("host")
    # An installation that would go on for ever.
    script(host.root.parent / "bin/python3", 'touch "$DEPLOY_ROOT/began"; exec sleep 600')
    command: list[str | Path] = [sys.executable, "-m", "fer_edge.cli", "deploy", "host", "--wheel", wheel]
    with subprocess.Popen([*command, "--ssh-config", host.ssh_config], stderr=subprocess.PIPE, text=True) as running:
        until = time.monotonic() + 60
        while not (host.root / "began").exists():
            assert time.monotonic() < until
            time.sleep(0.02)
        assert list(host.temporary.iterdir())
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    host.wait_until_clean()
    if number == signal.SIGINT:
        assert running.returncode == 130
        assert said.splitlines()[-1] == "fer-edge: stopped"


def test_the_users_mistakes_are_told_before_anything_is_done(cli: Cli, wheel: Path, tmp_path: Path) -> None:
    said = cli("deploy", "pi", "--wheel", tmp_path / "none.whl", status=2).stderr
    assert said == f"fer-edge: {tmp_path}/none.whl: no such file\n"
    with pytest.raises(InputError, match="not a wheel that can be read"):
        pack(DEFAULT_MODEL)
    with pytest.raises(InputError, match="no such model file"):
        pack(wheel, model=tmp_path / "none.tflite")
    config = tmp_path / "config.toml"
    config.write_text('[mqtt]\npassword_file = "none"\n')
    with pytest.raises(InputError, match=r"none, the password_file of .*: cannot be read"):
        pack(wheel, config=config)
    config.write_text("nodes = 1\n")
    with pytest.raises(InputError, match=r"did you mean node\?"):
        pack(wheel, config=config)
    with pytest.raises(InputError, match="'-oProxyCommand=x': not a host"):
        deploy(["-oProxyCommand=x"], pack(wheel), told=quietly)


def test_a_wheel_can_be_built_of_a_clone_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fer_edge, "__file__", str(tmp_path / "site-packages/fer_edge/__init__.py"))
    with pytest.raises(InputError, match="give --wheel"):
        build_wheel(tmp_path)


def test_a_password_file_that_is_the_hosts_own_stays(tmp_path: Path, wheel: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[mqtt]\npassword_file = "/etc/nowhere/on/this/machine"\n')
    parcel = pack(wheel, config=config)
    assert (parcel.version, parcel.placed) == ("9.9.0", ())
    assert parcel.config == config.read_text()


def test_a_configuration_gets_another_model_and_keeps_the_rest() -> None:
    text = 'node = "a" # model = "x"\n model="old"\n\n[ mqtt ]\npassword_file = "secret"\nurl = ""\n'
    assert fitted(text, "x", model="new", without_password_file=True) == (
        'model = "new"\nnode = "a" # model = "x"\n\n[ mqtt ]\nurl = ""\n'
    )
    assert fitted("mqtt.password_file = 'x'\n", "x", model=None, without_password_file=True) == "\n"
    with pytest.raises(InputError, match="as plain lines"):
        fitted('"model" = "old"\n', "x", model="new")


def test_without_ssh_nothing_is_tried(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="ssh is not installed here"):
        deploy(["pi"], pack(wheel), told=quietly)
