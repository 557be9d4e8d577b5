"""Deploy over a real sshd to scratch hosts, whose sudo and installer are fakes.

`tests/system/test_deploy.py` deploys to a real system.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

import fer_edge
from fer_edge.errors import InputError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge_device.install.bundle import build_wheel, make_bundle
from fer_edge_device.install.deploy import deploy
from fer_edge_device.install.manifest import Manifest
from fer_edge_device.install.models import installed_name
from fer_edge_device.install.program_source import ProgramSource
from fer_edge_device.install.signatures import signature_path
from tests.device.install.ssh_hosts import FAKE, scratch_hosts, script
from tests.device.signer import Signer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cli
    from tests.device.install.ssh_hosts import Host

MODEL = installed_name(Path("my model.tflite"), DEFAULT_MODEL.read_bytes())
PASSWORD = "never to be printed"  # noqa: S105


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[Callable[[str], Host]]:
    with scratch_hosts(tmp_path) as make:
        yield make


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a wheel named fer-edge, with a fake of the program that changes a host."""
    path = tmp_path_factory.mktemp("wheel") / "fer_edge-9.9.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(FAKE, "fer_edge_device/install/remote_install.py")
        archive.writestr("fer_edge-9.9.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: fer-edge\nVersion: 9.9.0\n")
    return path


def quietly(host: str, step: str) -> None:
    del host, step


def test_failing_hosts_do_not_affect_others(
    make_host: Callable[[str], Host], wheel: Path, cli: Cli, tmp_path: Path
) -> None:
    well, broken, closed, cut = (make_host(name) for name in ("well", "broken", "closed", "cut"))
    (broken.root / "is broken").touch()
    script(closed.root.parent / "bin/sudo", "echo 'sudo: a password is required' >&2; exit 1")
    # Its session ends while files are copied.
    shell = cut.root.parent / "shell"
    text = shell.read_text().replace("*/sftp-server) ", f"*/sftp-server) kill -9 $(cat {shell}.pid); sleep 1; ")
    shell.write_text(text.replace("exec sh", f"echo $$ > {shell}.pid\nexec sh"))
    with well.ssh_config.open("a") as file:
        file.write("Host gone\n HostName 127.0.0.1\n Port 1\n")
    model = tmp_path / "my model.tflite"
    shutil.copy(DEFAULT_MODEL, model)
    (tmp_path / "secret").write_text(PASSWORD)
    config = tmp_path / "config.toml"
    config.write_text(
        '# mine\nnode = "hall"\nmodel = "edge"\n[mqtt]\nurl = "mqtt://ada@broker"\npassword_file = "secret"\n'
    )
    options = ("--wheel", wheel, "--model", model, "--config", config, "--ssh-config", well.ssh_config)
    result = cli("deploy", "cut", "well", "broken", "closed", "gone", *options, status=1)
    output = result.stdout + result.stderr
    table = [line.split(maxsplit=1) for line in result.stdout.splitlines()[-6:]]
    assert [[name, rest.split()] for name, rest in table] == [
        ["host", ["version", "model", "classifier", "frame", "outcome"]],
        ["cut", ["-", "-", "-", "-", "failed", "to", "copy"]],
        ["well", ["9.9.0", MODEL.removesuffix(".tflite"), "1.25", "ms", "1.25", "ms", "ready"]],
        ["broken", ["-", "-", "-", "-", "failed", "to", "start", "it"]],
        ["closed", ["-", "-", "-", "-", "failed", "to", "check", "sudo"]],
        ["gone", ["-", "-", "-", "-", "failed", "to", "connect"]],
    ]
    for line in (
        "well: A Pi, some 1.0, edge",
        "well: create a temporary environment",
        "broken: undo: start it",
        "broken: failed to start it; its last lines:\n  no camera found\n",
        "  sudo: a password is required\n  sudo asks for a password here; allow this user to use it without one: ",
        "Connection refused\n  is it switched on and on the network, and is ssh enabled there?\n",
    ):
        assert line in output
    assert PASSWORD not in output
    brought = well.brought()
    assert msgspec.json.decode(brought.pop("manifest.json"), type=Manifest) == Manifest(
        wheel=wheel.name,
        model=f"/etc/fer-edge/models/{MODEL}",
        model_file=MODEL,
        config="config.toml",
        password="password",  # noqa: S106 - a file's name
    )
    assert brought == {
        wheel.name: wheel.read_bytes(),
        MODEL: DEFAULT_MODEL.read_bytes(),
        "password": PASSWORD.encode(),
        "config.toml": (
            f'# mine\nnode = "hall"\nmodel = "/etc/fer-edge/models/{MODEL}"\n[mqtt]\nurl = "mqtt://ada@broker"\n'
        ).encode(),
    }
    for host in (well, broken, closed):
        host.wait_until_clean()


def test_a_host_with_keys_runs_nothing_of_an_unsigned_release(
    make_host: Callable[[str], Host], wheel: Path, tmp_path: Path
) -> None:
    host, signer, other = make_host("host"), Signer(tmp_path / "mine"), Signer(tmp_path / "other")
    signer.trust(host.root)
    release, model = tmp_path / wheel.name, tmp_path / "mine.tflite"
    shutil.copy(wheel, release)
    shutil.copy(DEFAULT_MODEL, model)

    def outcome() -> tuple[str, str]:
        bundle = make_bundle(release, model=model)
        (found,) = deploy(["host"], bundle, on_progress=quietly, ssh_config=host.ssh_config)
        assert (host.root / "manifest.json").exists() == (not found.failed_step)
        return found.failed_step, " ".join(found.output)

    signer.sign(model)
    assert outcome() == (
        "check signatures",
        f"{release.name}: no key in {host.root}/etc/fer-edge/trusted-keys has signed it, or it was changed since",
    )
    other.sign(release)
    assert outcome()[0] == "check signatures"
    signer.sign(release)
    signature_path(model).unlink()
    assert outcome()[1].startswith(f"{installed_name(model, model.read_bytes())}: no key in")
    signer.sign(model)
    assert outcome() == ("", "")


def test_no_wave_begins_after_a_failure(make_host: Callable[[str], Host], wheel: Path, cli: Cli) -> None:
    names = ("first", "second", "third", "fourth")
    hosts = {name: make_host(name) for name in names}
    command = ("deploy", "--wheel", wheel, "--ssh-config", hosts["first"].ssh_config, *names)

    def outcomes(*waves: str, status: int = 0) -> dict[str, str]:
        lines = cli(*command, *waves, status=status).stdout.splitlines()[-4:]
        return {name: " ".join(rest) for name, *rest in map(str.split, lines)}

    (hosts["second"].root / "is broken").touch()
    found = outcomes("--waves", "1,2", status=1)
    assert found["first"].endswith("ready")
    assert found["second"].endswith("failed to start it")
    assert found["third"].endswith("ready")  # of the same wave
    assert found["fourth"].endswith("not begun")
    assert list(hosts["fourth"].root.iterdir()) == []
    (hosts["second"].root / "is broken").unlink()
    for waves in ((), ("--waves", "1"), ("--waves", "3,1000")):
        assert all(outcome.endswith("ready") for outcome in outcomes(*waves).values())
    for wrong in ("0", "1,", "a", "-1", "1;2"):
        message = cli(*command, f"--waves={wrong}", status=2).stderr
        assert message == f"fer-edge: --waves {wrong}: give the hosts of each wave as numbers, such as 1,5\n"


def test_deploys_a_model_alone_and_goes_back(
    make_host: Callable[[str], Host], cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = {name: make_host(name) for name in ("first", "second", "bare")}
    for name in ("first", "second"):
        hosts[name].install_program()
    model = Path(shutil.copy(DEFAULT_MODEL, tmp_path / "my model.tflite"))
    # A program that was not installed from a clone cannot build a wheel, and needs none.
    monkeypatch.setattr("fer_edge_device.install.bundle.build_wheel", None)

    def outcomes(*args: str | Path, status: int = 0) -> dict[str, list[str]]:
        output = cli("deploy", "--ssh-config", hosts["first"].ssh_config, *args, status=status)
        table = output.stdout[output.stdout.index("host  ") :].splitlines()[1:]
        return {name: rest for name, *rest in map(str.split, table)}

    found = outcomes("first", "bare", "second", "--waves", "1", "--model", model, status=1)
    assert found["first"] == ["9.9.0", MODEL.removesuffix(".tflite"), "1.25", "ms", "1.25", "ms", "ready"]
    assert found["bare"] == ["-", "-", "-", "-", "failed", "to", "find", "out", "what", "to", "change"]
    assert found["second"][-2:] == ["not", "begun"]
    assert hosts["first"].brought().keys() == {MODEL, "manifest.json"}
    assert (hosts["first"].root / MODEL).read_bytes() == model.read_bytes()
    assert hosts["bare"].brought() == hosts["second"].brought() == {}

    found = outcomes("first", "second", "--model-back")
    assert [found[name][1] for name in ("first", "second")] == ["edge-81c3f00a"] * 2
    manifest = msgspec.json.decode(hosts["second"].brought()["manifest.json"], type=Manifest)
    assert manifest == Manifest(model_back=True)
    for host in hosts.values():
        host.wait_until_clean()
    message = cli("deploy", "first", "--model-back", "--model", model, status=2).stderr
    assert message == "fer-edge: --model-back cannot be combined with --model, --config or --wheel\n"


def test_leaves_no_files_on_a_host_when_stopped(make_host: Callable[[str], Host], wheel: Path) -> None:
    command: list[str | Path] = [sys.executable, "-m", "fer_edge.cli", "deploy", "--wheel", wheel]
    hosts = {name: make_host(name) for name in ("stopped", "killed")}
    runs: dict[str, subprocess.Popen[str]] = {}
    for name, host in hosts.items():
        # An installation that never ends.
        script(host.root.parent / "bin/python3", 'touch "$DEPLOY_ROOT/began"; exec sleep 600')
        args = [*command, "--ssh-config", host.ssh_config, name]
        runs[name] = subprocess.Popen(args, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    for host in hosts.values():
        while not (host.root / "began").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert list(host.temporary.iterdir())
    runs["stopped"].send_signal(signal.SIGINT)
    runs["killed"].kill()
    _, output = runs["stopped"].communicate(timeout=60)
    assert (runs["stopped"].returncode, output.splitlines()[-1]) == (130, "fer-edge: stopped")
    runs["killed"].communicate(timeout=60)
    for host in hosts.values():
        host.wait_until_clean()


def test_reports_mistakes_before_anything_is_changed(cli: Cli, wheel: Path, tmp_path: Path) -> None:
    output = cli("deploy", "pi", "--wheel", tmp_path / "none.whl", status=2).stderr
    assert output == f"fer-edge: {tmp_path}/none.whl: no such file\n"
    with pytest.raises(InputError, match="not a readable wheel"):
        make_bundle(DEFAULT_MODEL)
    with pytest.raises(InputError, match="no such model file"):
        make_bundle(wheel, model=tmp_path / "none.tflite")
    config = tmp_path / "config.toml"
    config.write_text('[mqtt]\npassword_file = "none"\n')
    with pytest.raises(InputError, match=r"none, the password_file of .*: cannot be read"):
        make_bundle(wheel, config=config)
    config.write_text("nodes = 1\n")
    with pytest.raises(InputError, match=r"did you mean node\?"):
        make_bundle(wheel, config=config)
    with pytest.raises(InputError, match="'-oProxyCommand=x': not a host"):
        deploy(["-oProxyCommand=x"], make_bundle(wheel), on_progress=quietly)
    with pytest.raises(InputError, match="Could not resolve hostname"):
        deploy(["absent.invalid"], make_bundle(wheel), on_progress=quietly)


def test_builds_a_wheel_only_from_a_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fer_edge, "__file__", str(tmp_path / "site-packages/fer_edge/__init__.py"))
    monkeypatch.setattr("fer_edge_device.install.bundle.own_program_source", lambda: ProgramSource("fer-edge==1.0"))
    with pytest.raises(InputError, match="give --wheel"):
        build_wheel(tmp_path)


def test_keeps_a_password_file_of_the_host(tmp_path: Path, wheel: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[mqtt]\npassword_file = "/etc/nowhere/on/this/machine"\n')
    bundle = make_bundle(wheel, config=config)
    assert (bundle.manifest.password, bundle.files) == (None, {wheel.name: wheel})
    assert bundle.config == config.read_text()


def test_requires_ssh(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="ssh is not installed on this machine"):
        deploy(["pi"], make_bundle(wheel), on_progress=quietly)
