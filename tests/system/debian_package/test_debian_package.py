"""Install, upgrade, break and purge the Debian package in fresh containers without a network: ``make test-deb``.

The packages are built from this clone, with a later version and one that does not become ready.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.arm64.image import SUITES
from tests.system.arm64.wheels import BROKEN, LATER, ROOT, build_wheel
from tests.system.containers import DROP_IN, UNIT, Container, debian_tree, require_containers, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path("/usr/lib/fer-edge/program")
# Caches of apt and debconf, which are written when anything is installed.
OF_APT = ("/var/cache/apt", "/var/cache/debconf", "/var/lib/apt")
# The package leaves out what no part of the program uses. So this imports every module, and what some of them import
# later, and prints the packages that are missing.
IMPORT_ALL = """
import importlib, pkgutil
import ai_edge_litert.interpreter, ai_edge_litert.schema_py_generated, fer_edge, fer_edge_device, rich.progress
missing = set()
for package in fer_edge, fer_edge_device:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                missing.add(error.name)
print(*sorted(missing))
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000), pytest.mark.xdist_group("container")]


@dataclass(frozen=True)
class Packages:
    """The packages for one release of Debian.

    Attributes:
        release: 12 or 13.
        own: this clone's.
        later: the same with a later version.
        broken: a still later version that ends before its first frame.
    """

    release: int
    own: Path
    later: Path
    broken: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    if "FER_EDGE_TEST_DEB" not in os.environ:
        pytest.skip("make test-deb tests the Debian package")
    require_containers()
    release = int(os.environ["FER_EDGE_TEST_DEB"])
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    folder = tmp_path_factory.mktemp("packages")
    wheels = (build_wheel(folder), build_wheel(folder, LATER), build_wheel(folder, BROKEN, broken=True))
    script = str(ROOT / "distribution/debian/build.py")
    build = (sys.executable, script, f"--debian={release}", f"--arch={architecture}", f"--out={folder}")
    own, later, broken = (
        Path(subprocess.check_output([*build, f"--wheel={wheel}"], text=True).strip()) for wheel in wheels
    )
    return Packages(release, own, later, broken)


@pytest.fixture
def container(packages: Packages, video: Path, tmp_path: Path) -> Iterator[Container]:
    mounts = {"/srv/debs": packages.own.parent, "/srv/video": video}
    with Container(debian_tree(SUITES[packages.release]), tmp_path, mounts) as booted:
        yield booted


def apt(container: Container, *arguments: str, status: int = 0) -> str:
    done = container.run("apt-get", "-y", "-q", *arguments, check=False, DEBIAN_FRONTEND="noninteractive")
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def install(container: Container, package: Path, *options: str, status: int = 0) -> str:
    return apt(container, "install", *options, f"/srv/debs/{package.name}", status=status)


def version(container: Container) -> str:
    return container.run("fer-edge", "--version").stdout.strip()


def state(container: Container) -> str:
    return container.run("systemctl", "is-active", UNIT, check=False).stdout.strip()


def next_message(container: Container, topic: str) -> str:
    """Return the next message of a topic, or the retained one."""
    listen = ("mosquitto_sub", "-h", "127.0.0.1", "-t", f"fer-edge/container/{topic}", "-C", "1", "-W", "120")
    return container.run(*listen).stdout.strip()


def margin(container: Container) -> float:
    """Return a setting that was changed over MQTT, which the service keeps among its state."""
    return float(json.loads(next_message(container, "settings/state"))["margin"])


def current(container: Container) -> Path:
    return (container.root / "opt/fer-edge/current").readlink()


def files(container: Container) -> set[str]:
    return {path for path in container.files() if not path.startswith(OF_APT)}


def check_a_fresh_installation(container: Container, package: Path) -> None:
    """Install the package: the command works, and no camera opens before somebody asks for it."""
    install(container, package)
    assert version(container) == package.name.split("_")[1].split("+")[0]
    assert state(container) == "inactive"
    assert container.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip() == "disabled"
    assert container.run("/opt/fer-edge/current/bin/python3", "-c", IMPORT_ALL).stdout.split() == ["av"]
    assert "edge.tflite" in container.run("fer-edge", "inspect", "edge").stdout
    changed = container.run("dpkg", "--verify", "fer-edge").stdout.splitlines()
    assert [line for line in changed if "/usr/share/doc/" not in line] == []  # which these containers leave out


def start_the_service(container: Container) -> None:
    """Let the installer configure and start the packaged service, and leave the program to apt."""
    drop_in = container.root / "etc/systemd/system/fer-edge.service.d/test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(DROP_IN)
    service = container.run("fer-edge", "service", "install", "--camera=/srv/video", "--mqtt=mqtt://127.0.0.1")
    assert "venvs" not in service.stdout
    assert "emotion" in json.loads(next_message(container, "event"))
    assert container.run("systemctl", "is-enabled", UNIT).stdout.strip() == "enabled"
    assert not (container.root / "etc/systemd/system/fer-edge.service").exists()
    for command, advice in (("upgrade", "sudo apt install"), ("uninstall", "sudo apt purge fer-edge")):
        done = container.run("fer-edge", "service", command, check=False)
        assert done.returncode == 2
        assert advice in done.stderr


def test_installs_runs_upgrades_rolls_back_and_is_purged(container: Container, packages: Packages) -> None:
    before = files(container)
    check_a_fresh_installation(container, packages.own)
    start_the_service(container)
    change = ("mosquitto_pub", "-h", "127.0.0.1", "-q", "1", "-t", "fer-edge/container/settings/set")
    container.run(*change, "-m", '{"margin": 0.25}')
    wait_for(lambda: margin(container) == 0.25)

    install(container, packages.later)
    assert (version(container), state(container), margin(container)) == (LATER, "active", 0.25)
    assert current(container) == PROGRAM
    assert not (container.root / "usr/lib/fer-edge/previous").exists()

    output = install(container, packages.broken, status=100)
    assert "the previous version runs again" in output
    assert (version(container), state(container), margin(container)) == (LATER, "active", 0.25)
    assert current(container) == PROGRAM.with_name("previous")
    assert "this is the previous version" in container.run("fer-edge", "service", "status").stdout

    install(container, packages.own, "--allow-downgrades")
    assert (state(container), margin(container), current(container)) == ("active", 0.25, PROGRAM)
    assert version(container) != LATER

    apt(container, "remove", "fer-edge")
    assert state(container) == "inactive"
    assert (container.root / "etc/fer-edge/config.toml").exists()
    install(container, packages.own)  # starts again, because it starts at boot
    wait_for(lambda: state(container) == "active")
    assert margin(container) == 0.25

    apt(container, "purge", "fer-edge")
    assert files(container) ^ before == set()
