"""What a deployment does to a host, in a scratch folder: real files, with stand-ins for systemd and pip alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fer_edge.errors import InputError, ServiceError
from fer_edge_device.install import remote_install
from fer_edge_device.install.installer import Wishes, install_steps
from fer_edge_device.install.remote_install import ORDER, Order, arrival_steps, arrive
from tests.device.machines import Pi, make_wheel, newer

INTERRUPTED = """
import subprocess
from fer_edge_device.install import remote_install
from fer_edge_device.install.transaction import Step, carry_out

remote_install._end_with_the_connection()
steps = [Step("wait", lambda: subprocess.run(["sh", "-c", "echo waiting; sleep 600 & wait"]), lambda: None)]
try:
    carry_out(steps, remote_install._say)
except KeyboardInterrupt:
    remote_install._say("interrupted")
"""


@pytest.fixture
def pi(tmp_path: Path) -> Pi:
    return Pi(tmp_path / "pi")


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """A wheel, a configuration, a model and a password."""
    wheel = make_wheel(tmp_path)
    (tmp_path / "config.toml").write_text('model = "/etc/fer-edge/models/mine.tflite"\n')
    (tmp_path / "mine.tflite").write_text("a model")
    (tmp_path / "password").write_text("secret")
    return Order(
        wheel=Path(wheel.requirement).name,
        config="config.toml",
        model="/etc/fer-edge/models/mine.tflite",
        model_file="mine.tflite",
        password="password",  # noqa: S106 - a file's name
    )


def test_a_bare_host_and_then_the_same_again(
    pi: Pi, tmp_path: Path, order: Order, capsys: pytest.CaptureFixture[str]
) -> None:
    arrive(pi.machine, tmp_path, order)
    said = capsys.readouterr().out.splitlines()
    assert "fer-edge-deploy step start fer-edge.service and wait until it is ready" in said
    assert said[-3:-1] == ["fer-edge-deploy version 0.1.0", "fer-edge-deploy step measure"]
    assert said[-1].startswith('fer-edge-deploy done {"machine":"A Pi"')
    assert '"model":"/etc/fer-edge/models/mine.tflite"' in said[-1]
    for name, content, mode in (
        ("etc/fer-edge/config.toml", (tmp_path / "config.toml").read_text(), 0o640),
        ("etc/fer-edge/models/mine.tflite", "a model", 0o644),
        ("etc/credstore/fer-edge.mqtt-password", "secret", 0o600),
    ):
        path = pi.root / name
        assert (path.read_text(), path.stat().st_mode & 0o777) == (content, mode)
    assert pi.active == {"fer-edge.service"}
    pi.commands.clear()
    assert arrival_steps(pi.machine, tmp_path, order) == []


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_host_that_does_not_come_up_gets_back_what_it_had(
    pi: Pi, tmp_path: Path, order: Order, capsys: pytest.CaptureFixture[str], *, stopped: bool
) -> None:
    old = make_wheel(tmp_path)
    pi.do(install_steps(pi.machine, Wishes(), old))
    newer(old)
    if stopped:
        pi.active.clear()
    before, active = pi.files(), set(pi.active)
    pi.commands.clear()
    pi.fails = "start"
    with pytest.raises(ServiceError, match="its last words: fer-edge: no camera found"):
        arrive(pi.machine, tmp_path, order)
    assert "fer-edge-deploy back taking back: write" in capsys.readouterr().out
    assert pi.files() == before
    assert [command[1:] for command in pi.commands].count(("start", "fer-edge.service")) == 1 + len(active)


def test_a_new_program_model_and_configuration_take_the_place_of_the_old(pi: Pi, tmp_path: Path, order: Order) -> None:
    old = make_wheel(tmp_path)
    pi.do(install_steps(pi.machine, Wishes(camera="demo"), old))
    newer(old)
    verbs = [step.what.partition(" ")[0] for step in arrival_steps(pi.machine, tmp_path, order)]
    # The old one runs while the new one is made.
    assert verbs == ["make", "stop", "write", "make", "write", "make", "write", "point", "write", "start"]
    arrive(pi.machine, tmp_path, order)
    assert pi.config().read_text() == (tmp_path / "config.toml").read_text()
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")


def test_a_model_alone_goes_into_the_hosts_own_configuration(pi: Pi, tmp_path: Path, order: Order) -> None:
    alone = Order(wheel=order.wheel, model="edge-plus")
    pi.config().parent.mkdir(parents=True)
    pi.config().write_text('# theirs\n[camera]\nsource = "demo"\n')
    arrive(pi.machine, tmp_path, alone)
    assert pi.config().read_text() == 'model = "edge-plus"\n# theirs\n[camera]\nsource = "demo"\n'


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "only running"])
def test_a_host_with_a_unit_for_each_camera_gets_the_program_alone(
    pi: Pi, tmp_path: Path, order: Order, *, enabled: bool
) -> None:
    old = make_wheel(tmp_path)
    pi.do(install_steps(pi.machine, Wishes(instance="hall", camera="demo"), old))
    if not enabled:
        pi.run("systemctl", "disable", "fer-edge@hall.service")
    newer(old)
    with pytest.raises(InputError, match="a unit for each camera"):
        arrival_steps(pi.machine, tmp_path, order)
    arrive(pi.machine, tmp_path, Order(wheel=order.wheel))
    assert (pi.root / "opt/fer-edge/current").readlink() == Path("venvs/2")
    assert pi.active == {"fer-edge@hall.service"}


def test_a_second_deployment_to_a_host_is_refused_in_one_line(
    pi: Pi, tmp_path: Path, order: Order, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ORDER).write_bytes(msgspec.json.encode(order))
    monkeypatch.setattr(remote_install, "Machine", lambda: pi.machine)
    monkeypatch.setattr(remote_install, "_end_with_the_connection", lambda: None)
    monkeypatch.setattr(sys, "argv", ["arrival", str(tmp_path)])
    with pi.machine.reserved():
        assert remote_install.main() == 1
    assert capsys.readouterr().out.startswith("this machine's fer-edge is being installed, upgraded or removed by ")
    assert not pi.commands
    assert remote_install.main() == 0


def test_what_is_done_when_the_connection_ends_is_taken_back() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        assert [process.stdout.readline() for _ in range(2)] == ["wait\n", "waiting\n"]
        process.stdin.close()
        # To its end, which comes when everything that was started has ended.
        assert process.stdout.read() == "taking back: wait\ninterrupted\n"
