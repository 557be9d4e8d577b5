"""The service under a real systemd, from its installation to its removal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge import demo
from tests.system.containers import Container, debian_tree, need_containers, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
UNIT = "fer-edge.service"
FRAMES = 6000  # ten minutes: longer than the test
DROP_IN = """
[Service]
ExecStart=
ExecStart=/opt/fer-edge/current/bin/fer-edge run --config /etc/fer-edge/config.toml --realtime
WatchdogSec=5
RestartSec=1
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """A machine with wheels to install from, a film to watch, and fer-edge in /srv/site to install with."""
    need_containers()
    own, wheels, site, film = (tmp_path / name for name in ("own", "wheels", "site", "film"))
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(own), str(ROOT)], check=True, capture_output=True)
    (wheel,) = own.glob("*.whl")
    download = [*pip, "download", "--only-binary=:all:", "-d", str(wheels), f"{wheel}[device]"]
    subprocess.run(download, check=True, capture_output=True)
    wheel.with_name("broken").mkdir()
    _break(wheel, wheel.with_name("broken") / wheel.name)
    for wanted in (["--no-deps", str(wheel)], ["--no-index", f"--find-links={wheels}", "typer", "msgspec"]):
        subprocess.run([*pip, "install", "--target", str(site), *wanted], check=True, capture_output=True)
    _write_film(film)
    shown = {"/srv/wheels": wheels, "/srv/own": own, "/srv/site": site, "/srv/film": film}
    with Container(debian_tree(), tmp_path, shown) as booted:
        yield booted


def _break(wheel: Path, broken: Path) -> None:
    """The same program, but it ends before its first frame."""
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(broken, "w") as other:
        for name in whole.namelist():
            other.writestr(name, b"raise SystemExit(1)" if name == "fer_edge_device/app.py" else whole.read(name))


def _write_film(folder: Path) -> None:
    """The demo over and over."""
    folder.mkdir()
    for number in range(FRAMES):
        path = folder / f"{number:05d}.jpg"
        if number < demo.FRAMES:
            cv2.imwrite(str(path), demo.frame(number))
        else:
            os.link(folder / f"{number % demo.FRAMES:05d}.jpg", path)


def fer_edge(container: Container, *words: str, status: int = 0) -> str:
    done = container.run(
        *("python3", "-B", "-m", "fer_edge.cli", *words),
        check=False,
        PYTHONPATH="/srv/site",
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS="/srv/wheels",
    )
    assert done.returncode == status, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def show(container: Container, name: str) -> str:
    return container.run("systemctl", "show", UNIT, f"--property={name}", "--value").stdout.strip()


def is_back(container: Container, restarts: int) -> bool:
    return (show(container, "NRestarts"), show(container, "ActiveState")) == (str(restarts), "active")


def heard(container: Container, topic: str) -> str:
    """The next message of a topic, or the one that the broker has kept."""
    listen = ("mosquitto_sub", "-h", "127.0.0.1", "-t", f"fer-edge/container/{topic}", "-C", "1", "-W", "60")
    return container.run(*listen).stdout.strip()


def sees_faces(container: Container) -> bool:
    return "emotion" in json.loads(heard(container, "event"))


def said_by_the_service(container: Container) -> str:
    return container.run("journalctl", "-q", "-o", "cat", "-u", UNIT).stdout


def files(container: Container) -> set[str]:
    """Every file of the container but for logs and what systemd and the broker remember."""
    pruned = ("/var/log", "/var/lib/systemd", "/var/lib/mosquitto")
    unless = [word for path in pruned for word in ("-path", path, "-prune", "-o")]
    return set(container.run("find", "/", "-xdev", *unless, "-print").stdout.splitlines())


def test_the_service_starts_recovers_is_upgraded_and_leaves_nothing_behind(
    container: Container, capsys: pytest.CaptureFixture[str]
) -> None:
    (wheel,) = container.run("sh", "-c", "ls /srv/own/*.whl").stdout.split()
    before = files(container)
    drop_in = container.root / "etc/systemd/system/fer-edge.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(DROP_IN)

    assert "sudo fer-edge service install" in fer_edge(container, "service", "status", status=2)
    install = ("service", "install", "--from", wheel, "--camera", "/srv/film", "--mqtt", "mqtt://127.0.0.1")
    planned = fer_edge(container, *install, "--dry-run")
    assert "would make /opt/fer-edge/venvs/1" in planned
    assert not (container.root / "opt/fer-edge").exists()

    fer_edge(container, *install)
    assert show(container, "ActiveState") == "active"
    assert container.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert sees_faces(container)
    assert "nothing to do" in fer_edge(container, *install)
    score = container.run("systemd-analyze", "security", "--no-pager", "--threshold=12", UNIT).stdout
    with capsys.disabled():
        print("\n" + score.splitlines()[-1])  # noqa: T201 - for the record of a test run

    assert heard(container, "availability") == "online"

    config = container.root / "etc/fer-edge/config.toml"
    config.write_text(config.read_text().replace("# margin = 0.1", "margin = 0.2"))
    container.run("systemctl", "reload", UNIT)
    wait_for(lambda: "the configuration was read anew" in said_by_the_service(container))
    assert show(container, "ActiveState") == "active"

    container.run("systemctl", "kill", "--signal=KILL", UNIT)
    wait_for(lambda: is_back(container, restarts=1))
    assert sees_faces(container)

    container.run("systemctl", "kill", "--signal=STOP", UNIT)
    wait_for(lambda: is_back(container, restarts=2))
    assert "Watchdog timeout" in said_by_the_service(container)
    assert sees_faces(container)
    assert "active (running)" in fer_edge(container, "service", "status")

    broken = str(Path(wheel).parent / "broken" / Path(wheel).name)
    said = fer_edge(container, "service", "upgrade", "--from", broken, status=1)
    assert "did not become ready" in said
    assert (container.root / "opt/fer-edge/current").readlink() == Path("venvs/1")
    assert show(container, "ActiveState") == "active"
    assert sees_faces(container)

    fer_edge(container, "service", "uninstall")
    assert show(container, "LoadState") == "not-found"
    assert heard(container, "availability") == "offline"
    assert config.exists()
    fer_edge(container, "service", "uninstall", "--purge")
    assert files(container) - before == set()
    assert "nothing to do" in fer_edge(container, "service", "uninstall", "--purge")
