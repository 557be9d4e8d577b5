"""Run the service under a real systemd, from its installation to its removal."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge import demo
from fer_edge_device.collect.encryption import make_identity
from tests.system.containers import DROP_IN, UNIT, Container, debian_tree, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.conftest import ContainerFiles

IMPATIENT = f"{DROP_IN}WatchdogSec=5\nRestartSec=1\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("container")]


@pytest.fixture
def container(container_files: ContainerFiles, tmp_path: Path) -> Iterator[Container]:
    """Boot a host with wheels to install, a video to process, and a fer-edge in /srv/site that installs it."""
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "-q", "install", "--no-compile", "--target", str(site)]
    for arguments in (
        ["--no-deps", container_files.wheel],
        ["--no-index", f"--find-links={container_files.wheels}", "typer", "msgspec", "tomlkit"],
    ):
        subprocess.run([*pip, *arguments], check=True, capture_output=True)
    mounts = {"/srv/own": container_files.wheel.parent, "/srv/site": site, **container_files.mounts}
    with Container(debian_tree(), tmp_path, mounts) as booted_container:
        yield booted_container


def fer_edge(container: Container, *args: str, status: int = 0) -> str:
    result = container.run(
        *("python3", "-B", "-m", "fer_edge.cli", *args),
        check=False,
        PYTHONPATH="/srv/site",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="/srv/wheels",
    )
    assert result.returncode == status, f"{args}: {result.returncode}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


# Asks the page for a path, with a token if there is one, and prints the status and the answer.
ASK = """
import sys, urllib.error, urllib.request
headers = {"Authorization": "Bearer " + sys.argv[2]} if sys.argv[2] else {}
request = urllib.request.Request("http://127.0.0.1:8080" + sys.argv[1], headers=headers)
try:
    with urllib.request.urlopen(request) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


def show(container: Container, name: str) -> str:
    return container.run("systemctl", "show", UNIT, f"--property={name}", "--value").stdout.strip()


def has_restarted(container: Container, restarts: int) -> bool:
    return (show(container, "NRestarts"), show(container, "ActiveState")) == (str(restarts), "active")


def next_message(container: Container, topic: str) -> str:
    """Return the next message of a topic, or the retained one."""
    listen = ("mosquitto_sub", "-h", "127.0.0.1", "-t", f"fer-edge/container/{topic}", "-C", "1", "-W", "60")
    return container.run(*listen).stdout.strip()


def reports_faces(container: Container) -> bool:
    return "emotion" in json.loads(next_message(container, "event"))


def journal_of_the_service(container: Container) -> str:
    return container.run("journalctl", "-q", "-o", "cat", "-u", UNIT).stdout


def restart_over_mqtt(container: Container) -> None:
    """Restart the runner, which to systemd goes on."""
    process = show(container, "MainPID")
    publish = ("mosquitto_pub", "-h", "127.0.0.1", "-q", "1", "-t", "fer-edge/container/restart/set", "-m", "PRESS")
    container.run(*publish)
    wait_for(lambda: journal_of_the_service(container).count("connected to mqtt://") == 2)
    wait_for(lambda: show(container, "ActiveState") == "active")
    assert (show(container, "MainPID"), show(container, "NRestarts")) == (process, "0")


def processes_of_the_service(container: Container) -> list[str]:
    return container.run("cat", f"/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs").stdout.split()


def watch_a_network_camera(container: Container, config: Path) -> None:
    """Let the service watch a camera of the network for a while, which its second process reads."""
    images = [cv2.imencode(".jpg", demo.frame(number))[1].tobytes() for number in range(demo.FRAMES)]
    video = container.root / "root/video"
    video.write_bytes(b"".join(images * 5))
    container.run("systemd-run", "--unit=camera", "python3", "-m", "http.server", "8000", "--directory", "/root")
    before = config.read_text()
    config.write_text(before.replace('source = "/srv/video"', 'source = "http://127.0.0.1:8000/video"'))
    assert config.read_text() != before
    container.run("systemctl", "restart", UNIT)
    wait_for(lambda: next_message(container, "camera") == "online")
    runner, camera = processes_of_the_service(container)
    assert runner == show(container, "MainPID")
    container.run("kill", "-KILL", camera)
    wait_for(
        lambda: len(processes_of_the_service(container)) == 2 and camera not in processes_of_the_service(container)
    )
    wait_for(lambda: next_message(container, "camera") == "online")
    assert show(container, "MainPID") == runner
    container.run("systemctl", "stop", "camera")
    video.unlink()
    config.write_text(before)
    container.run("systemctl", "restart", UNIT)
    assert reports_faces(container)
    assert len(processes_of_the_service(container)) == 1


def serve_the_page(container: Container, config: Path) -> None:
    """Let the service serve its page to other machines for a while, with the token that the system's command shows."""
    before = config.read_text()
    config.write_text(before.replace('# listen = ""', 'listen = "0.0.0.0:8080"'))
    assert config.read_text() != before
    container.run("systemctl", "restart", UNIT)
    token = container.run("fer-edge", "web", "token").stdout.strip()
    code = container.run("python3", "-c", ASK, "/api/state", "").stdout.split()[0]
    assert code == "401"
    code, state = container.run("python3", "-c", ASK, "/api/state", token).stdout.split(maxsplit=1)
    assert (code, json.loads(state)["node"]) == ("200", "container")
    config.write_text(before)
    container.run("systemctl", "restart", UNIT)


def collect_faces(container: Container, config: Path, identity: Path) -> None:
    """Let the service collect faces for a while, which its sandbox must allow."""
    before = config.read_text()
    lines = f'enabled = true\nmargin = 1.0\ninterval_s = 0.1\npublic_key = "{make_identity(identity)}"'
    config.write_text(before.replace('# public_key = ""', lines))
    assert config.read_text() != before
    container.run("systemctl", "reload", UNIT)
    wait_for(lambda: re.search(r"/var/lib/fer-edge/collected: \d+ crops", container.run("fer-edge", "collect").stdout))
    config.write_text(before)
    container.run("systemctl", "reload", UNIT)
    wait_for(lambda: not json.loads(next_message(container, "info"))["collects_faces"])
    assert re.search(r"deleted \d+ crops", container.run("fer-edge", "collect", "delete").stdout)
    assert not [*container.root.glob("var/lib/private/fer-edge/collected*")]
    assert reports_faces(container)


def test_service_starts_recovers_upgrades_and_is_removed(
    container: Container, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (wheel,) = container.run("sh", "-c", "ls /srv/own/*.whl").stdout.split()
    before = container.files()
    drop_in = container.root / "etc/systemd/system/fer-edge.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(IMPATIENT)

    assert "-m fer_edge.cli service install" in fer_edge(container, "service", "status", status=2)
    install = ("service", "install", "--from", wheel, "--camera", "/srv/video", "--mqtt", "mqtt://127.0.0.1")
    planned = fer_edge(container, *install, "--dry-run")
    assert "would create /opt/fer-edge/venvs/1" in planned
    assert not (container.root / "opt/fer-edge").exists()

    fer_edge(container, *install)
    assert show(container, "ActiveState") == "active"
    assert container.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert reports_faces(container)
    assert "nothing to do" in fer_edge(container, *install)
    score = container.run("systemd-analyze", "security", "--no-pager", "--threshold=12", UNIT).stdout
    with capsys.disabled():
        print("\n" + score.splitlines()[-1])  # noqa: T201 - for the log of the test run

    assert next_message(container, "availability") == "online"

    config = container.root / "etc/fer-edge/config.toml"
    config.write_text(config.read_text().replace("# margin = 0.1", "margin = 0.2"))
    container.run("systemctl", "reload", UNIT)
    wait_for(lambda: "configuration reloaded" in journal_of_the_service(container))
    assert show(container, "ActiveState") == "active"

    restart_over_mqtt(container)
    assert reports_faces(container)

    watch_a_network_camera(container, config)
    serve_the_page(container, config)
    collect_faces(container, config, tmp_path / "identity")

    container.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    wait_for(lambda: has_restarted(container, restarts=1))
    assert reports_faces(container)

    container.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    wait_for(lambda: has_restarted(container, restarts=2))
    assert "Watchdog timeout" in journal_of_the_service(container)
    assert reports_faces(container)
    assert "active (running)" in container.run("fer-edge", "service", "status").stdout  # the installed command

    broken = str(Path(wheel).parent / "broken" / Path(wheel).name)
    output = fer_edge(container, "service", "upgrade", "--from", broken, status=1)
    assert "did not become ready" in output
    assert (container.root / "opt/fer-edge/current").readlink() == Path("venvs/1")
    assert show(container, "ActiveState") == "active"
    assert reports_faces(container)

    fer_edge(container, "service", "uninstall")
    assert show(container, "LoadState") == "not-found"
    assert next_message(container, "availability") == "offline"
    assert config.exists()
    fer_edge(container, "service", "uninstall", "--purge")
    assert container.files() - before == set()
    assert "nothing to do" in fer_edge(container, "service", "uninstall", "--purge")
