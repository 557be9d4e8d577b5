"""Run the container's image: ``make test-image`` after ``make image``. The add-on's start is always tested."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

DISTRIBUTION = Path(__file__).parents[3] / "distribution"
ADD_ON = DISTRIBUTION / "home_assistant/fer_edge"
IMAGE = os.environ.get("FER_EDGE_TEST_IMAGE", "")
# crun knows no machine with both versions of cgroups, so this gives it one version, in a mount namespace of its own.
MOUNTS = "mount -t tmpfs tmpfs /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--pids-limit=0")


def podman(*arguments: str) -> str:
    options = shlex.split(os.environ.get("PODMAN_OPTIONS", ""))
    command = shlex.join(["podman", *options, *arguments])
    namespace = ("unshare", "--mount", "--propagation=private", "sh", "-c", f"{MOUNTS} && exec {command}")
    result = subprocess.run(namespace, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not IMAGE, reason="make test-image tests the image")
def test_runs_read_only_without_root_and_network_and_says_how_it_is() -> None:
    (image,) = json.loads(podman("image", "inspect", IMAGE))
    assert image["Size"] < 400e6
    assert image["User"] == "10001:44"
    health = image.get("Healthcheck") or image["Config"]["Healthcheck"]
    run = ("run", "--rm", "--network=none", "--cgroups=disabled", "--read-only", "--cap-drop=all", "--no-healthcheck")
    program = shlex.join(health["Test"][1:])
    # A runner whose page is asked as the health check does it: with the demo, then without a camera.
    script = f"""
        id -u; touch /nowhere 2>/dev/null || echo read-only
        check() {{
            fer-edge run "$@" >/dev/null 2>&1 & runner=$!
            for attempt in $(seq "$limit"); do {program} 2>/dev/null && break; sleep 1; done
            {program} 2>/dev/null; echo "$?"
            kill "$runner"; wait "$runner"
        }}
        limit=100 check --source demo --loop --realtime
        limit=15 check --source http://127.0.0.1:1/video --mqtt mqtt://127.0.0.1:1
    """
    output = podman(*run, *LIMITS, "--entrypoint", "sh", IMAGE, "-c", script)
    assert output.split() == ["10001", "read-only", "0", "1"]


@pytest.fixture
def variables() -> Callable[..., dict[str, str]]:
    found: Callable[..., dict[str, str]] = runpy.run_path(str(ADD_ON / "start.py"))["variables"]
    return found


def test_the_add_on_takes_its_broker_from_the_options_or_the_supervisor(
    variables: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    config: dict[str, Any] = yaml.safe_load((ADD_ON / "config.yaml").read_text())
    options = config["options"]
    supervisor = {"host": "core-mosquitto", "port": 1883, "ssl": False, "username": "add ons", "password": "secret"}
    password = tmp_path / "mqtt-password"
    found = variables(options, supervisor, password)
    assert found["FER_EDGE_MQTT_URL"] == "mqtt://add%20ons@core-mosquitto:1883"
    assert found["FER_EDGE_MQTT_PASSWORD_FILE"] == str(password)
    assert "secret" not in str(found)
    own = variables({**options, "mqtt_url": "mqtts://me@broker"}, supervisor, password)
    assert own["FER_EDGE_MQTT_URL"] == "mqtts://me@broker"
    assert "FER_EDGE_MQTT_PASSWORD_FILE" not in own
    assert "FER_EDGE_MQTT_URL" not in variables(options, {}, password)
    assert options.keys() <= config["schema"].keys()


def test_every_variable_of_the_containers_is_a_key(variables: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    from fer_edge_device.config.load import load_config  # noqa: PLC0415 - beside what it checks

    compose = yaml.safe_load((DISTRIBUTION / "container/compose.yaml").read_text())
    camera = compose["services"]["camera"]
    own = {key: value.rpartition(":-")[2].rstrip("}") for key, value in camera["environment"].items()}
    load_config(Path(os.devnull), own)
    assert camera["read_only"] is True
    options = {"node": "camera", "source": "auto", "picture": "full", "mqtt_url": "mqtt://a"}
    config = load_config(Path(os.devnull), variables(options, {}, tmp_path / "password"))
    assert (config.node, config.web.picture, config.web.trusted_proxy) == ("camera", "full", "172.30.32.2")
    version = (DISTRIBUTION.parent / "pyproject.toml").read_text()
    add_on = yaml.safe_load((ADD_ON / "config.yaml").read_text())
    assert f'version = "{add_on["version"]}"' in version
