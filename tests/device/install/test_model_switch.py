"""Change the model of a host's cameras and go back, in a scratch folder, with fakes of systemd and pip only."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge.errors import InputError, ServiceError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge_device.config.load import load_config
from fer_edge_device.install.installer import install_steps
from fer_edge_device.install.model_switch import back_steps, change_steps
from fer_edge_device.install.options import InstallOptions
from fer_edge_device.install.signatures import signature_path
from tests.device.signer import Signer
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.install.program_source import ProgramSource
    from tests.device.machines import Pi

UNIT = "fer-edge.service"

# Does the steps of a change in another process, which stops for ever after a step.
KILLED = """
import sys, time
from pathlib import Path
from fer_edge_device.install.model_switch import change_steps

pi = Pi(Path(sys.argv[1]))
pi.active.add("fer-edge.service")
for step in change_steps(pi.host, Path(sys.argv[2])):
    print(step.description, flush=True)
    if step.description.startswith(sys.argv[3]):
        time.sleep(3600)
    step.do()
"""


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Write the shipped model with a hash of its own; perhaps it does not give the outputs on its card."""

    def make(name: str, padding: int, *, works: bool = True) -> Path:
        model = model_bytes(DEFAULT_MODEL) + bytes(padding)
        card = read_card(DEFAULT_MODEL, ClassifierCard)
        test = card.self_test
        assert test
        if not works:
            outputs = tuple(tuple(reversed(row)) for row in test.outputs)
            card = msgspec.structs.replace(card, self_test=msgspec.structs.replace(test, outputs=outputs))
        card = msgspec.structs.replace(card, flatbuffer_sha256=hashlib.sha256(model).hexdigest())
        path = tmp_path / name
        path.write_bytes(with_card(model, card))
        return path

    return make


@pytest.fixture
def node(pi: Pi, wheel: ProgramSource) -> Pi:
    """Install the service with the shipped model."""
    pi.do(install_steps(pi.host, InstallOptions(camera="demo"), wheel))
    pi.reload(UNIT)
    return pi


def value(model: Path) -> str:
    digits = hashlib.sha256(model.read_bytes()).hexdigest()[:8]
    return f"/etc/fer-edge/models/{model.stem}-{digits}.tflite"


def model_of(pi: Pi, name: str = "config") -> str:
    return load_config(pi.config(name), {}).model


def files(pi: Pi) -> list[str]:
    return sorted(path.name for path in (pi.root / "etc/fer-edge/models").glob("*.tflite"))


def test_changes_the_model_without_a_restart_and_goes_back(node: Pi, make_model: Callable[..., Path]) -> None:
    mine, comments = make_model("mine.tflite", 8), node.config().read_text().count("#")
    mode = node.config().stat().st_mode
    node.commands.clear()
    node.do(change_steps(node.host, mine))
    assert model_of(node) == value(mine)
    assert (node.root / value(mine)[1:]).read_bytes() == mine.read_bytes()
    assert node.config().read_text().count("#") == comments
    assert node.config().stat().st_mode == mode
    assert node.status[UNIT].endswith(value(mine).rpartition("-")[2].removesuffix(".tflite"))
    assert {command[1] for command in node.commands if command[0] == "systemctl"} == {"show", "reload"}
    assert change_steps(node.host, mine) == []

    node.do(back_steps(node.host))
    assert model_of(node) == "edge"
    assert node.running_model(UNIT) == hashlib.sha256(DEFAULT_MODEL.read_bytes()).hexdigest()
    assert back_steps(node.host) == []  # so that it can be said again to hosts of which some were off
    assert files(node) == [Path(value(mine)).name]


def test_keeps_the_model_before_and_no_more(node: Pi, make_model: Callable[..., Path]) -> None:
    own = node.root / "etc/fer-edge/models/own.tflite"
    own.parent.mkdir(exist_ok=True)
    own.write_bytes(b"put there by hand")
    values = []
    for number in (1, 2, 3):
        mine = make_model("mine.tflite", 8 * number)
        node.do(change_steps(node.host, mine))
        values.append(value(mine))
    _, before, after = values
    assert files(node) == sorted([Path(before).name, Path(after).name, "own.tflite"])
    node.do(back_steps(node.host))
    assert model_of(node) == before


def test_a_model_that_fails_its_self_test_is_never_used(node: Pi, make_model: Callable[..., Path]) -> None:
    before = node.files()
    with pytest.raises(ServiceError, match=r"the scores of .* on this machine differ by up to"):
        node.do(change_steps(node.host, make_model("wrong.tflite", 8, works=False)))
    assert node.files() == before
    assert not [command for command in node.commands if "reload" in command]


def test_a_model_that_the_runner_refuses_is_taken_back(node: Pi, make_model: Callable[..., Path]) -> None:
    before, node.refuses_reload = node.files(), True
    with pytest.raises(ServiceError, match=r"fer-edge.service: configuration not reloaded at \d+: no such model file"):
        node.do(change_steps(node.host, make_model("mine.tflite", 8)))
    assert node.files() == before


@pytest.mark.parametrize("step", ["test the model", "write", "let"])
def test_a_node_that_is_killed_has_a_whole_model(node: Pi, make_model: Callable[..., Path], step: str) -> None:
    mine = make_model("mine.tflite", 8)
    command = [sys.executable, "-c", KILLED, str(node.root), str(mine), step]
    root = Path(__file__).parents[3]
    with Process(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(step):
                break
        process.send_signal(signal.SIGKILL)
    assert model_of(node) == "edge"
    node.reload(UNIT)
    node.do(change_steps(node.host, mine))  # once more
    assert model_of(node) == value(mine)
    assert files(node) == [Path(value(mine)).name]
    node.do(back_steps(node.host))
    assert model_of(node) == "edge"


def test_a_camera_that_is_stopped_or_waits_is_not_waited_for(node: Pi, make_model: Callable[..., Path]) -> None:
    node.unplugged.add(UNIT)
    node.do(change_steps(node.host, make_model("mine.tflite", 8)))
    assert ("systemctl", "restart", "--no-block", UNIT) in node.commands
    node.active.clear()
    node.commands.clear()
    node.do(change_steps(node.host, make_model("mine.tflite", 16)))
    assert {command[1] for command in node.commands if command[0] == "systemctl"} == {"show"}


def test_changes_every_camera_or_one(pi: Pi, wheel: ProgramSource, make_model: Callable[..., Path]) -> None:
    for name in ("door", "hall"):
        pi.do(install_steps(pi.host, InstallOptions(instance=name, camera="demo"), wheel))
    mine, other = make_model("mine.tflite", 8), make_model("other.tflite", 16)
    pi.do(change_steps(pi.host, mine))
    pi.do(change_steps(pi.host, other, "hall"))
    assert [model_of(pi, name) for name in ("door", "hall")] == [value(mine), value(other)]
    pi.do(back_steps(pi.host))
    assert [model_of(pi, name) for name in ("door", "hall")] == ["edge", value(mine)]
    with pytest.raises(InputError, match=r"attic\.toml: no such configuration"):
        change_steps(pi.host, mine, "attic")


def test_says_why_it_cannot_go_back(pi: Pi, wheel: ProgramSource, make_model: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="no such configuration; install the service first"):
        back_steps(pi.host)
    pi.do(install_steps(pi.host, InstallOptions(camera="demo"), wheel))
    with pytest.raises(InputError, match="no model was changed on this host"):
        back_steps(pi.host)
    pi.do(change_steps(pi.host, make_model("mine.tflite", 8)))
    pi.config().write_text('model = "edge-plus"\n')
    with pytest.raises(InputError, match=r"model was edited and is edge-plus now, not /etc/fer-edge/models/mine-"):
        back_steps(pi.host)
    (pi.root / "etc/fer-edge/models/earlier.json").write_text("{")
    with pytest.raises(InputError, match=r"earlier\.json: damaged .*; remove it"):
        back_steps(pi.host)


def test_requires_a_signature_where_keys_are_trusted(node: Pi, make_model: Callable[..., Path], tmp_path: Path) -> None:
    mine, signer = make_model("mine.tflite", 8), Signer(tmp_path / "signer")
    signer.trust(node.root)
    before = node.files()
    with pytest.raises(InputError, match=r"mine\.tflite: mine\.tflite\.minisig is missing"):
        change_steps(node.host, mine)
    signer.sign(mine)
    os.truncate(mine, mine.stat().st_size - 1)
    with pytest.raises(InputError, match=r"no key in .* has signed it, or it was changed since"):
        change_steps(node.host, mine)
    assert node.files() == before
    signature_path(mine).unlink()
    signer.sign(make_model("mine.tflite", 8))
    node.do(change_steps(node.host, mine))
    assert model_of(node) == value(mine)


def test_a_replaced_configuration_keeps_its_model(
    node: Pi, wheel: ProgramSource, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    config = tmp_path / "new.toml"
    config.write_text('model = "edge-plus"\n')
    node.do(install_steps(node.host, InstallOptions(config=config, replace=True), wheel))
    assert model_of(node) == "edge-plus"
    node.do(back_steps(node.host))
    assert model_of(node) == "edge"
    wrong = make_model("wrong.tflite", 8, works=False)
    config.write_text(f'model = "{value(wrong)}"\n')
    before = node.files()
    with pytest.raises(ServiceError, match="differ by up to"):
        node.do(install_steps(node.host, InstallOptions(config=config, model=wrong, replace=True), wheel))
    assert node.files() == before
