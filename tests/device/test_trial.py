"""Test that a trial with a video keeps out of what belongs to the node."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox
from tests.device.brokers import Gate, Mosquitto, subscribing, wait_for
from tests.device.mqtt.helpers import new_event

if TYPE_CHECKING:
    from pathlib import Path

RUN = (sys.executable, "-m", "fer_edge.cli", "run", "--node", "kitchen", "--full-speed")


def run(*args: str | Path, state: Path) -> str:
    """Run a trial to its end and return its log."""
    environment = {**os.environ, "XDG_STATE_HOME": str(state)}
    environment.pop("STATE_DIRECTORY", None)
    result = subprocess.run([*RUN, *args], capture_output=True, text=True, check=True, timeout=240, env=environment)
    return result.stderr


def make_node_outbox(path: Path) -> dict[str, bytes]:
    """Make an outbox with an event, and return its files."""
    outbox = Outbox(path, OutboxSettings())
    outbox.put([new_event(b"{}", "fer-edge/kitchen/event")])
    outbox.close()
    return files(path)


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}


@pytest.mark.parametrize("configured", [False, True])
def test_events_of_a_trial_wait_in_an_outbox_of_their_own(tmp_path: Path, *, configured: bool) -> None:
    own = tmp_path / "own" / "events.sqlite" if configured else tmp_path / "fer-edge" / "kitchen.sqlite"
    before = make_node_outbox(own)
    trial = own.parent / "trials" / own.name
    with Gate() as nowhere:
        config = tmp_path / "config.toml"
        config.write_text(
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{nowhere.port}"\n' + f'[outbox]\npath = "{own}"\n' * configured
        )
        log = run("--config", config, "--source", "demo", state=tmp_path)
    found = re.search(r"^(\d+) events wait for the broker in (.*)$", log, re.MULTILINE)
    assert found, log
    assert found[2] == str(trial)
    outbox = Outbox(trial, OutboxSettings())
    assert len(outbox) == int(found[1]) > 3
    outbox.close()
    assert files(own) == before


def test_runs_while_the_outbox_of_the_node_is_in_use(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "fer-edge" / "kitchen.sqlite", OutboxSettings())
    with Mosquitto(tmp_path / "broker") as broker:
        log = run(
            "--source", "demo", "--mqtt", f"mqtt://127.0.0.1:{broker.port}", "--config", "/dev/null", state=tmp_path
        )
    assert "for the broker" not in log
    assert not len(outbox)
    outbox.close()


def test_off_that_a_trial_takes_from_the_broker_lasts_for_the_node(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        address = f"mqtt://127.0.0.1:{broker.port}"
        subscriber.publish("fer-edge/kitchen/enabled/set", "OFF", retain=True)
        run(
            "--source",
            "demo",
            "--realtime",
            "--seconds",
            "5",
            "--mqtt",
            address,
            "--config",
            "/dev/null",
            state=tmp_path,
        )
        wait_for(lambda: b"" in subscriber.payloads("fer-edge/kitchen/enabled/set"), "the command to be removed")
    assert (tmp_path / "fer-edge" / "kitchen.sqlite.off").exists()
