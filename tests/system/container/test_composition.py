"""Start the node and the broker of `compose.yaml`, and the add-on beside a Supervisor: part of ``make test-image``.

The broker is an image with the name that `compose.yaml` gives it; Home Assistant is not started.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml  # type: ignore[import-untyped]

from tests.system.container import supervisor
from tests.system.container.machine import Machine
from tests.system.containers import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

DISTRIBUTION = Path(__file__).parents[3] / "distribution"
COMPOSITION = DISTRIBUTION / "container/compose.yaml"
IMAGE = os.environ.get("FER_EDGE_TEST_IMAGE", "")
BROKER = yaml.safe_load(COMPOSITION.read_text())["services"]["broker"]["image"]
PROJECT, NETWORK, ADD_ON = "fer-edge-test", "fer-edge-test-supervisor", "localhost/fer-edge-test-add-on"
# Home Assistant's own network, in which the Supervisor has this address.
SUBNET, SUPERVISOR, OTHER = "172.30.32.0/23", "172.30.32.2", "172.30.33.0"
PYTHON = "/opt/fer-edge/current/bin/python"
# What lets containers find each other by name, for each of podman's networks.
NAMES = {
    "cni": ("dnsname", "golang-github-containernetworking-plugin-dnsname"),
    "netavark": ("aardvark-dns", "aardvark-dns"),
}
PLUGINS = [
    Path(path)
    for path in ("/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin", "/usr/lib/podman", "/usr/libexec/podman")
]
ASK = """
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"X-Ingress-Path": "/api/hassio_ingress/test"})
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not IMAGE, reason="make test-image tests the image"),
]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    exists = ("podman", "image", "exists", BROKER)
    if subprocess.run(exists, check=False).returncode:
        pytest.skip(f"there is no broker here (podman pull {BROKER})")
    ask = ("podman", "info", "--format={{.Host.NetworkBackend}}")
    program, package = NAMES[subprocess.check_output(ask, text=True).strip()]
    if not any((folder / program).exists() for folder in PLUGINS):
        pytest.skip(f"containers would not find each other by name (sudo apt install {package})")
    with Machine(tmp_path) as started:
        yield started


@pytest.fixture
def folder(machine: Machine, tmp_path: Path) -> Path:
    """Return a copy of the composition's folder with passwords, made as the manual says."""
    copy = tmp_path / PROJECT
    shutil.copytree(COMPOSITION.parent, copy)
    make = (
        "run",
        "--rm",
        "--network=none",
        f"--volume={copy}:/work",
        "--workdir=/work",
        BROKER,
        "mosquitto_passwd",
        "-b",
    )
    machine.podman(*make, "-c", "passwords", "fer-edge", "secret")
    machine.podman(*make, "passwords", "homeassistant", "hidden")
    (copy / "fer-edge-password").write_text("secret\n")
    for name, user, group in (("fer-edge-password", 10001, 0), ("passwords", 1883, 1883), ("permissions", 1883, 1883)):
        os.chown(copy / name, user, group)
        (copy / name).chmod(0o400)
    return copy


def listen(machine: Machine, broker: str, topic: str) -> str:
    """Return the next message of a topic as Home Assistant gets it."""
    client = ("mosquitto_sub", "-u", "homeassistant", "-P", "hidden", "-t", topic, "-C", "1", "-W", "120")
    return machine.podman("exec", broker, *client).strip()


@pytest.mark.skipif(shutil.which("podman-compose") is None, reason="sudo apt install podman-compose")
def test_messages_of_the_composition_reach_its_broker(machine: Machine, folder: Path) -> None:
    composer = ("podman-compose", "-p", PROJECT, "-f", str(folder / COMPOSITION.name))
    settings = {"FER_EDGE_IMAGE": IMAGE, "FER_EDGE_DEVICE": os.devnull, "FER_EDGE_CAMERA_SOURCE": "demo"}
    broker, camera = f"{PROJECT}_broker_1", f"{PROJECT}_camera_1"
    try:
        machine.run(*composer, "up", "-d", "camera", "broker", environment=settings)
        assert json.loads(listen(machine, broker, "fer-edge/kitchen/info"))["model"] == "edge"
        # The demo may have ended by now, but the broker keeps this.
        wait_for(lambda: json.loads(listen(machine, broker, "fer-edge/kitchen/stats"))["fps"] > 0)
        discovery = json.loads(listen(machine, broker, "homeassistant/device/fer-edge-kitchen/config"))
        assert discovery["device"]["name"] == "fer-edge kitchen"
        (found,) = json.loads(machine.podman("inspect", camera))
        assert found["HostConfig"]["ReadonlyRootfs"]
        assert found["HostConfig"]["Memory"] == 400 << 20
        assert found["EffectiveCaps"] in (None, [])
        refused = (
            "mosquitto_pub",
            "-u",
            "homeassistant",
            "-P",
            "guessed",
            "-t",
            "fer-edge/kitchen/enabled/set",
            "-m",
            "OFF",
        )
        assert "not authori" in machine.podman("exec", broker, "sh", "-c", '"$@" 2>&1 || true', "sh", *refused)
    finally:
        machine.run(*composer, "down", "-v", check=False, environment=settings)
        machine.podman("network", "rm", "-f", f"{PROJECT}_default", check=False)


def test_the_add_on_finds_the_broker_and_shows_its_page_to_the_ingress_alone(
    machine: Machine, folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "options.json").write_text(json.dumps({"node": "hall", "source": "http://supervisor/stream"}))
    (data / "options.json").chmod(0o600)
    start = ("run", "-d", "--rm", f"--network={NETWORK}")
    settings = (
        f"--volume={folder / name}:/mosquitto/config/{name}:ro"
        for name in ("mosquitto.conf", "passwords", "permissions")
    )
    build = ("--isolation=chroot", "--pull=never", "--format=docker", f"--build-arg=BUILD_FROM={IMAGE}", "-t", ADD_ON)
    try:
        machine.podman("build", *build, str(DISTRIBUTION / "home_assistant/fer_edge"))
        machine.podman("network", "create", f"--subnet={SUBNET}", NETWORK)
        broker = ("--name=fer-edge-test-broker", f"--ip={OTHER}", "--network-alias=core-mosquitto")
        machine.podman(*start, *broker, *settings, BROKER)
        script = f"--volume={supervisor.__file__}:/supervisor.py:ro"
        stand_in = ("--name=fer-edge-test-supervisor", f"--ip={SUPERVISOR}", "--network-alias=supervisor", "--user=0")
        machine.podman(*start, *stand_in, "--no-healthcheck", script, f"--entrypoint={PYTHON}", IMAGE, "/supervisor.py")

        def ask(container: str, address: str) -> str:
            return machine.podman("exec", container, PYTHON, "-Ic", ASK, address, check=False).strip()

        wait_for(lambda: ask("fer-edge-test-supervisor", "http://supervisor/") == "403")
        add_on = ("--name=fer-edge-test-add-on", "--network-alias=add-on", f"--env=SUPERVISOR_TOKEN={supervisor.TOKEN}")
        machine.podman(*start, *add_on, f"--volume={data}:/data", ADD_ON)
        assert "emotion" in json.loads(listen(machine, "fer-edge-test-broker", "fer-edge/hall/event"))
        wait_for(lambda: ask("fer-edge-test-supervisor", "http://add-on:8080/healthz") == "200")
        assert ask("fer-edge-test-supervisor", "http://add-on:8080/") == "200"
        assert ask("fer-edge-test-add-on", "http://add-on:8080/") in {"401", "403", "421"}
        look = ("exec", "--user=10001:44", "fer-edge-test-add-on", "cat", "/proc/1/status", "/proc/1/environ")
        runner = machine.podman(*look)
        assert "Uid:\t10001\t10001\t10001\t10001" in runner
        assert "SUPERVISOR_TOKEN" not in runner
        assert "secret" not in runner
    finally:
        for name in ("add-on", "supervisor", "broker"):
            machine.podman("rm", "-f", f"fer-edge-test-{name}", check=False)
        machine.podman("network", "rm", "-f", NETWORK, check=False)
        machine.podman("rmi", "-f", ADD_ON, check=False)
