"""Deploy from this machine to one with a real systemd, sudo and sshd."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_device.install.models import installed_name
from tests.device.test_reload_model import write_model
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


def start(pi: Container, folder: Path, wheel: Path | None, *args: str | Path) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "fer_edge.cli", "deploy", "--ssh-config", folder / "ssh_config")
    return pi.start_outside(*command, *(("--wheel", wheel) if wheel else ()), *args)


def deploy(pi: Container, folder: Path, wheel: Path | None, *args: str | Path, status: int = 0) -> str:
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


def deploys_another_model_and_goes_back(pi: Container, model: Path, folder: Path) -> None:
    """Deploy a model to the running service, one that does not work, and go back: the service goes on."""
    before = (pi.root / "etc/fer-edge/config.toml").read_text()
    other, wrong = folder / "other.tflite", folder / "wrong.tflite"
    write_model(other, bytes(8))
    write_model(wrong, bytes(16))
    card = read_card(wrong, ClassifierCard)
    assert card.self_test
    test = msgspec.structs.replace(card.self_test, outputs=card.self_test.outputs[::-1])
    wrong.write_bytes(with_card(model_bytes(wrong), msgspec.structs.replace(card, self_test=test)))

    output = deploy(pi, folder, None, "--model", wrong, "pi", status=1)
    assert "failed to test the model" in output
    assert (pi.root / "etc/fer-edge/config.toml").read_text() == before
    output = deploy(pi, folder, None, "--model", other, "pi")
    digits = hashlib.sha256(other.read_bytes()).hexdigest()[:8]
    assert output.splitlines()[-1].split()[2] == f"edge-{digits}"
    assert pi.run("fer-edge", "service", "status").stdout.count(f"model edge-{digits}") == 1
    output = deploy(pi, folder, None, "--model-back", "pi")
    digits = hashlib.sha256(model.read_bytes()).hexdigest()[:8]
    assert output.splitlines()[-1].split()[2] == f"edge-{digits}"
    assert (pi.root / "etc/fer-edge/config.toml").read_text() == before
    assert is_clean(pi)


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
    assert f"/etc/fer-edge/models/{installed_name(model, model.read_bytes())}\n  classifier" in output
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

    deploys_another_model_and_goes_back(pi, model, tmp_path)
    assert state(pi) == ("active", first_run)
    deploy(pi, tmp_path, container_files.wheel, *all_options)
    _, first_run = state(pi)

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
