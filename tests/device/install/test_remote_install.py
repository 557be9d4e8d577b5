"""Change a host as a deployment does, in a scratch folder, with fakes of systemd and pip only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fer_edge.errors import InputError, ServiceError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge_device.install import remote_install
from fer_edge_device.install.installer import install_steps
from fer_edge_device.install.manifest import MANIFEST, Manifest
from fer_edge_device.install.models import installed_name
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.remote_install import install, steps_for
from tests.device.machines import Pi, make_wheel, newer
from tests.processes import Process

MODEL = installed_name(Path("mine.tflite"), DEFAULT_MODEL.read_bytes())
INTERRUPTED = """
import subprocess
from fer_edge_device.install import remote_install
from fer_edge_device.install.transaction import Step, apply

remote_install._stop_with_connection()
steps = [Step("wait", lambda: subprocess.run(["sh", "-c", "echo waiting; sleep 600 & wait"]), lambda: None)]
try:
    apply(steps, remote_install._print)
except KeyboardInterrupt:
    remote_install._print("interrupted")
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Write a wheel, a configuration, a model and a password."""
    wheel = make_wheel(tmp_path)
    (tmp_path / "config.toml").write_text(f'model = "/etc/fer-edge/models/{MODEL}"\n')
    shutil.copy(DEFAULT_MODEL, tmp_path / MODEL)
    (tmp_path / "password").write_text("secret")
    return Manifest(
        wheel=Path(wheel.requirement).name,
        config="config.toml",
        model=f"/etc/fer-edge/models/{MODEL}",
        model_file=MODEL,
        password="password",  # noqa: S106 - a file's name
    )


def test_installs_on_a_new_host_and_has_no_steps_the_second_time(
    pi: Pi, tmp_path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    install(pi.host, tmp_path, manifest)
    output = capsys.readouterr().out.splitlines()
    assert "fer-edge-deploy step start fer-edge.service and wait until it is ready" in output
    assert output[-2] == "fer-edge-deploy step measure"
    assert output[-1].startswith('fer-edge-deploy done {"machine":"A Pi"')
    assert f'"model":"/etc/fer-edge/models/{MODEL}"' in output[-1]
    for name, content, mode in (
        ("etc/fer-edge/config.toml", (tmp_path / "config.toml").read_bytes(), 0o640),
        (f"etc/fer-edge/models/{MODEL}", DEFAULT_MODEL.read_bytes(), 0o644),
        ("etc/credstore/fer-edge.mqtt-password", b"secret", 0o600),
    ):
        path = pi.root / name
        assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, mode)
    assert pi.active == {"fer-edge.service"}
    pi.commands.clear()
    assert steps_for(pi.host, tmp_path, manifest) == []


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_restores_a_host_whose_service_does_not_start(
    pi: Pi, tmp_path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str], *, stopped: bool
) -> None:
    old = make_wheel(tmp_path)
    pi.do(install_steps(pi.host, InstallOptions(), old))
    newer(old)
    if stopped:
        pi.active.clear()
    before, active = pi.files(), set(pi.active)
    pi.commands.clear()
    pi.fails = "start"
    with pytest.raises(ServiceError, match="last line: fer-edge: no camera found"):
        install(pi.host, tmp_path, manifest)
    assert "fer-edge-deploy undo undo: write" in capsys.readouterr().out
    assert pi.files() == before
    assert [command[1:] for command in pi.commands].count(("start", "fer-edge.service")) == 1 + len(active)


def test_replaces_program_model_and_configuration(pi: Pi, tmp_path: Path, manifest: Manifest) -> None:
    old = make_wheel(tmp_path)
    pi.do(install_steps(pi.host, InstallOptions(camera="demo"), old))
    newer(old)
    verbs = [step.description.partition(" ")[0] for step in steps_for(pi.host, tmp_path, manifest)]
    # The old program runs while the new one is installed.
    program, model, secret = ["create"], ["create", "write", "test"], ["create", "write"]
    before = [*program, *model, "stop"]
    assert verbs == [*before, "create", "write", "write", *secret, "point", "write", "start", "remove"]
    install(pi.host, tmp_path, manifest)
    assert pi.config().read_text() == (tmp_path / "config.toml").read_text()
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")


def test_writes_the_model_into_the_configuration_of_the_host(pi: Pi, tmp_path: Path, manifest: Manifest) -> None:
    alone = Manifest(wheel=manifest.wheel, model="edge-plus")
    pi.config().parent.mkdir(parents=True)
    pi.config().write_text('# theirs\n[camera]\nsource = "demo"\n')
    install(pi.host, tmp_path, alone)
    assert pi.config().read_text() == 'model = "edge-plus"\n# theirs\n[camera]\nsource = "demo"\n'


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "only running"])
def test_installs_only_the_program_on_a_host_with_one_unit_per_camera(
    pi: Pi, tmp_path: Path, manifest: Manifest, *, enabled: bool
) -> None:
    old = make_wheel(tmp_path)
    pi.do(install_steps(pi.host, InstallOptions(instance="hall", camera="demo"), old))
    if not enabled:
        pi.run("systemctl", "disable", "fer-edge@hall.service")
    newer(old)
    with pytest.raises(InputError, match="one unit per camera"):
        steps_for(pi.host, tmp_path, manifest)
    install(pi.host, tmp_path, Manifest(wheel=manifest.wheel))
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")
    assert pi.active == {"fer-edge@hall.service"}


def test_refuses_a_second_deployment_at_the_same_time(
    pi: Pi, tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    monkeypatch.setattr(remote_install, "Host", lambda: pi.host)
    monkeypatch.setattr(remote_install, "_stop_with_connection", lambda: None)
    monkeypatch.setattr(sys, "argv", ["remote_install", str(tmp_path)])
    with pi.host.locked():
        assert remote_install.main() == 1
    assert capsys.readouterr().out.startswith("another process is installing, upgrading or removing fer-edge")
    assert not pi.commands
    assert remote_install.main() == 0


def test_undoes_the_steps_when_the_connection_ends() -> None:
    with Process(
        [sys.executable, "-c", INTERRUPTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["wait\n", "waiting\n"]
        process.stdin.close()
        # Read to the end, which comes when every process that was started has ended.
        assert process.stdout.read() == "undo: wait\ninterrupted\n"
