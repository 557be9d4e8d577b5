"""What the Debian package is put through, on any machine with systemd and a broker, with the standard library alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from tests.system.arm64.guest import UNIT, StepError, wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

VIDEO: Final = "video.avi"
PROGRAM: Final = Path("/usr/lib/fer-edge/program")
# A video instead of a camera, at its own speed, without end.
DROP_IN: Final = """\
[Service]
ExecStart=
ExecStart=/opt/fer-edge/current/bin/fer-edge run --config /etc/fer-edge/config.toml --realtime --loop
"""
# Caches of apt and debconf, which are written when anything is installed.
OF_APT: Final = ("/var/cache/apt", "/var/cache/debconf", "/var/lib/apt")
# The package leaves out what no part of the program uses. So this imports every module, and what some of them import
# later, and prints the packages that are missing.
IMPORT_ALL: Final = """
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


class Machine(Protocol):
    """A machine on which the package is installed: a container, or the one that runs this."""

    root: Path

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program as root."""

    def files(self) -> set[str]:
        """Return the files that the package could own."""


class PackageSteps:
    """The steps, in their order: each public method is one, its first line is its name, and it says what was seen."""

    # Without these, no later step makes sense.
    ESSENTIAL: ClassVar = frozenset({"boot", "install", "start"})

    def __init__(
        self,
        machine: Machine,
        folder: str,
        packages: Sequence[str],
        drop_in: str = DROP_IN,
        patience_s: float = 120.0,
    ) -> None:
        """Prepare the steps.

        Args:
            machine: a fresh machine, without a network but with a broker that lets everybody in.
            folder: the machine's folder with the packages and the video.
            packages: the names of the package, of a later one, and of a still later one that does not become ready.
            drop_in: a drop-in for the unit, which makes the video the camera.
            patience_s: the longest time to wait for a message or a state, in seconds.
        """
        self._machine, self._folder, self._drop_in, self._patience_s = machine, folder, drop_in, patience_s
        self._own, self._later, self._broken = packages
        self._node = (machine.root / "etc/hostname").read_text().strip()
        self._before: set[str] = set()

    def boot(self) -> str:
        """Debian boots, without a network."""
        self._before = self._files()
        _expect(self._output("ls", "/sys/class/net"), "lo")
        return f"Debian {self._output('cat', '/etc/debian_version')}, {self._output('uname', '-srm')}"

    def install(self) -> str:
        """`apt install`: the command works, and no camera opens before somebody asks for it."""
        self._install(self._own)
        _expect(self._version(), _version(self._own))
        _expect((self._state(), self._enabled()), ("inactive", "disabled"))
        _expect(self._output("/opt/fer-edge/current/bin/python3", "-c", IMPORT_ALL), "av")
        _require("edge.tflite" in self._output("fer-edge", "inspect", "edge"), "the packaged model")
        changed = self._machine.run("dpkg", "--verify", "fer-edge").stdout.splitlines()
        # These machines leave out documents.
        _expect([line for line in changed if "/usr/share/doc/" not in line], [])
        return f"{self._version()}, {self._output('du', '-sm', '/usr/lib/fer-edge').split()[0]} MB; inactive, disabled"

    def start(self) -> str:
        """`service install` on a video: ready after the first frame; its events reach the broker."""
        drop_in = self._machine.root / f"etc/systemd/system/{UNIT}.d/test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(self._drop_in)
        camera = f"--camera={self._folder}/{VIDEO}"
        output = self._output("fer-edge", "service", "install", camera, "--mqtt=mqtt://127.0.0.1")
        _require("venvs" not in output, "the program of apt, and no other")
        event = json.loads(self._message("event"))
        _expect((self._state(), self._enabled()), ("active", "enabled"))
        _require(not (self._machine.root / "etc/systemd/system" / UNIT).exists(), "the unit of apt, and no other")
        for command, advice in (("upgrade", "sudo apt install"), ("uninstall", "sudo apt purge fer-edge")):
            done = self._machine.run("fer-edge", "service", command, check=False)
            _require(done.returncode == 2 and advice in done.stderr, f"{advice}, not {done.stderr}")
        return f"active, enabled; an event says {event['emotion']}"

    def change_a_setting(self) -> str:
        """A setting is changed over MQTT, which the service keeps among its state."""
        change = ("mosquitto_pub", "-h", "127.0.0.1", "-q", "1", "-t", f"fer-edge/{self._node}/settings/set")
        self._machine.run(*change, "-m", '{"margin": 0.25}')
        wait_for(lambda: self._margin() == 0.25, "the new margin", self._patience_s)
        return f"margin {self._margin()}"

    def upgrade(self) -> str:
        """`apt install` of a later version: the service runs it, with its state."""
        self._install(self._later)
        return self._check(self._later, PROGRAM)

    def roll_back(self) -> str:
        """`apt install` of a version that does not run: apt fails, and the previous one runs again."""
        output = self._install(self._broken, status=100)
        _require("the previous version runs again" in output, f"the way back, not {output}")
        seen = self._check(self._later, PROGRAM.with_name("previous"))
        status = self._output("fer-edge", "service", "status")
        _require("this is the previous version" in status, f"the previous version, not {status}")
        return seen

    def downgrade(self) -> str:
        """`apt install --allow-downgrades` of the first version."""
        self._install(self._own, "--allow-downgrades")
        return self._check(self._own, PROGRAM)

    def remove(self) -> str:
        """`apt remove` keeps configuration and state, and another `apt install` starts the service with them."""
        self._apt("remove", "fer-edge")
        _expect(self._state(), "inactive")
        _require((self._machine.root / "etc/fer-edge/config.toml").exists(), "the configuration")
        self._install(self._own)
        wait_for(lambda: self._state() == "active", "an active service", self._patience_s)
        return self._check(self._own, PROGRAM)

    def purge(self) -> str:
        """`apt purge` leaves nothing."""
        self._apt("purge", "fer-edge")
        _expect(sorted(self._files() ^ self._before), [])
        return "every file is as before"

    def _check(self, package: str, program: Path) -> str:
        """Check which version runs from where, with its state, and that no other is left."""
        _expect((self._version(), self._state(), self._margin()), (_version(package), "active", 0.25))
        _expect((self._machine.root / "opt/fer-edge/current").readlink(), program)
        if program == PROGRAM:
            _require(not (self._machine.root / "usr/lib/fer-edge/previous").exists(), "no previous version")
        event = json.loads(self._message("event"))
        return f"{self._version()} is active, margin {self._margin()}; an event says {event['emotion']}"

    def _apt(self, *arguments: str, status: int = 0) -> str:
        done = self._machine.run("apt-get", "-y", "-q", *arguments, check=False, DEBIAN_FRONTEND="noninteractive")
        if done.returncode != status:
            raise StepError(f"apt-get {' '.join(arguments)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def _install(self, package: str, *options: str, status: int = 0) -> str:
        return self._apt("install", *options, f"{self._folder}/{package}", status=status)

    def _output(self, *command: str) -> str:
        return self._machine.run(*command).stdout.strip()

    def _version(self) -> str:
        return self._output("fer-edge", "--version")

    def _state(self) -> str:
        return self._machine.run("systemctl", "is-active", UNIT, check=False).stdout.strip()

    def _enabled(self) -> str:
        return self._machine.run("systemctl", "is-enabled", UNIT, check=False).stdout.strip()

    def _message(self, topic: str) -> str:
        """Return the next message of a topic, or the retained one."""
        listen = ("mosquitto_sub", "-h", "127.0.0.1", "-t", f"fer-edge/{self._node}/{topic}", "-C", "1")
        return self._output(*listen, "-W", f"{self._patience_s:.0f}")

    def _margin(self) -> float:
        return float(json.loads(self._message("settings/state"))["margin"])

    def _files(self) -> set[str]:
        return {path for path in self._machine.files() if not path.startswith(OF_APT)}


def _version(package: str) -> str:
    """Return the version of fer-edge that a package has."""
    return package.split("_")[1].partition("+")[0]


def _expect(found: object, wanted: object) -> None:
    if found != wanted:
        raise StepError(f"found {found!r}, not {wanted!r}")


def _require(condition: bool, what: str) -> None:  # noqa: FBT001 - it is what the caller found
    if not condition:
        raise StepError(f"expected {what}")
