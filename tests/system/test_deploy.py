"""Deploy from this machine to one with a real systemd, sudo and sshd."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from fer_edge.model_zoo import DEFAULT_MODEL
from tests.system.containers import DROP_IN, UNIT, Container, debian_tree, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.conftest import ContainerFiles

CONFIG = """
node = "{node}"
[camera]
source = "/srv/video"
[mqtt]
password_file = "secret"
"""
SSH_CONFIG = """
Host pi
  HostName 127.0.0.1
Host gone
  HostName 127.0.0.1
  Port 1
Host *
  User pi
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("container")]


@pytest.fixture
def pi(container_files: ContainerFiles, tmp_path: Path) -> Iterator[Container]:
    """Boot a new host with our ssh key, a user who may use sudo, and a pip without network."""
    (tmp_path / "ssh_config").write_text(SSH_CONFIG.format(folder=tmp_path))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)  # noqa: S607
    with Container(debian_tree(), tmp_path, container_files.mounts) as booted:
        (booted.root / "etc/pip.conf").write_text("[global]\nno-index = true\nfind-links = /srv/wheels\n")
        (booted.root / "etc/sudoers.d/pi").write_text("pi ALL=(ALL) NOPASSWD: ALL\n")
        (booted.root / "etc/systemd/system/fer-edge.service.d").mkdir()
        (booted.root / "etc/systemd/system/fer-edge.service.d/test.conf").write_text(DROP_IN)
        booted.run("useradd", "--create-home", "pi")
        (booted.root / "home/pi/.ssh").mkdir()
        shutil.copy(tmp_path / "key.pub", booted.root / "home/pi/.ssh/authorized_keys")
        booted.run("chown", "-R", "pi:", "/home/pi/.ssh")
        wait_for(lambda: booted.run("systemctl", "is-active", "ssh", check=False).returncode == 0)
        yield booted


def start(pi: Container, folder: Path, wheel: Path, *args: str | Path) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "fer_edge.cli", "deploy", "--ssh-config", folder / "ssh_config")
    return pi.start_outside(*command, "--wheel", wheel, *args)


def deploy(pi: Container, folder: Path, wheel: Path, *args: str | Path, status: int = 0) -> str:
    with start(pi, folder, wheel, *args) as running:
        output, _ = running.communicate()
    assert running.returncode == status, output
    assert "Traceback" not in output
    return output


def state(pi: Container) -> tuple[str, str]:
    """Return whether the service runs, and the identifier of this run."""
    names = "--property=ActiveState,InvocationID"
    active, invocation = pi.run("systemctl", "show", UNIT, names, "--value").stdout.split()
    return active, invocation


def contents(pi: Container) -> dict[str, str]:
    """Return the contents of the files that a deployment changes."""
    paths = ("etc/fer-edge/config.toml", "etc/credstore/fer-edge.mqtt-password", f"etc/systemd/system/{UNIT}")
    return {path: (pi.root / path).read_text() for path in paths}


def is_clean(pi: Container) -> bool:
    """Return whether the copied files are removed, which is the last step."""
    return not list((pi.root / "var/tmp").glob("fer-edge-deploy*"))


def test_deploys_once_and_restores_the_host_after_a_failure(
    pi: Container, container_files: ContainerFiles, tmp_path: Path
) -> None:
    config, model, secret = (tmp_path / name for name in ("config.toml", "mine.tflite", "secret"))
    config.write_text(CONFIG.format(node="first"))
    secret.write_text("never to be printed")
    shutil.copy(DEFAULT_MODEL, model)
    all_options = ("--config", config, "--model", model, "pi")

    output = deploy(pi, tmp_path, container_files.wheel, *all_options, "gone", status=1)
    assert "\n  ssh: connect to host 127.0.0.1 port 1: Connection refused\n" in output
    assert output.splitlines()[-2].split()[0] == "pi"
    assert output.splitlines()[-2].endswith("  ready")
    assert "/etc/fer-edge/models/mine.tflite\n  classifier" in output
    assert secret.read_text() not in output
    active, first_run = state(pi)
    assert active == "active"
    credentials = pi.root / "etc/credstore"
    assert [path.stat().st_mode & 0o777 for path in (credentials, credentials / "fer-edge.mqtt-password")] == [
        0o700,
        0o600,
    ]
    assert is_clean(pi)

    output = deploy(pi, tmp_path, container_files.wheel, *all_options)
    assert ": create" not in output
    assert state(pi) == ("active", first_run)

    files, texts = pi.files(), contents(pi)
    config.write_text(CONFIG.format(node="second"))
    secret.write_text("another word")
    output = deploy(pi, tmp_path, container_files.broken, "--config", config, "pi", status=1)
    assert "failed to start fer-edge.service and wait until it is ready; its last lines:" in output
    assert output.splitlines()[-1].split()[:2] == ["pi", version("fer-edge")]
    assert (pi.files(), contents(pi)) == (files, texts)
    active, second_run = state(pi)
    assert active == "active"
    assert second_run != first_run

    # As after an upgrade to another Python.
    (packages,) = (pi.root / "opt/fer-edge/venvs/1/lib").glob("python3.*")
    packages.rename(packages.with_name("python3.1"))
    files, texts = pi.files(), contents(pi)
    with start(pi, tmp_path, container_files.broken, "--config", config, "pi") as stopped:
        assert stopped.stdout
        for line in stopped.stdout:
            if line.startswith("pi: create /opt/fer-edge/venvs/2"):
                assert "because /opt/fer-edge/venvs/1 does not run (python: ModuleNotFoundError" in line
                break
        stopped.send_signal(signal.SIGINT)
        assert stopped.stdout.read().endswith("fer-edge: stopped\n")
    assert stopped.returncode == 130
    wait_for(lambda: is_clean(pi))
    assert (pi.files(), contents(pi)) == (files, texts)
    assert state(pi) == ("active", second_run)
