"""A Debian with a real systemd, booted in a container from a tree that is built once per machine."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

UNIT = "fer-edge.service"
# A video instead of a camera, at its own speed.
DROP_IN = """
[Service]
ExecStart=
ExecStart=/opt/fer-edge/current/bin/fer-edge run --config /etc/fer-edge/config.toml --realtime
"""
CACHE = Path.home() / ".cache" / "fer-edge-tests"
# The release with the Python that runs the tests, so that wheels for one fit the other.
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
PACKAGES = "systemd,systemd-sysv,python3,python3-venv,mosquitto,mosquitto-clients,openssh-server,sudo"
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
# In its own mount namespace, so that nothing is left behind: nspawn keeps its state in /run.
BOOT = """
mount -t tmpfs tmpfs /run
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --register=no --keep-unit --console=pipe --boot "$@"
"""
NO_NETWORK = ("--private-network",)  # but a loopback interface
UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation=private")


def require_containers() -> None:
    """Skip the test, with the reason, if no container can be booted."""
    if sys.version_info[:2] not in SUITES:
        pytest.skip(f"no Debian release has Python {sys.version_info[0]}.{sys.version_info[1]}")
    if os.geteuid() != 0:
        pytest.skip("only root may boot a container")
    for program, package in (("systemd-nspawn", "systemd-container"), ("mmdebstrap", "mmdebstrap")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (sudo apt install {package})")
    if subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no namespaces, like a container without privileges")


def debian_tree(suite: str | None = None, packages: str = PACKAGES) -> Path:
    """Return the root folder of a Debian, which must not be changed. The first call builds it (about half a minute).

    Args:
        suite: the release; by default the one that has the Python that runs this.
        packages: what it has beside its base, separated by commas.
    """
    suite = suite or SUITES[sys.version_info[:2]]
    tree = CACHE / f"{suite}-{hashlib.sha256(packages.encode()).hexdigest()[:8]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            unfinished = tree.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            _make_tree(suite, packages, unfinished)
            unfinished.rename(tree)
    return tree


def _make_tree(suite: str, packages: str, folder: Path) -> None:
    result = subprocess.run(
        [
            # With its own mounts: if it is killed, no /proc or /dev stays mounted in a folder that is then removed.
            *("unshare", "--mount", "--propagation=private"),
            *("mmdebstrap", "--variant=minbase", "--mode=root", f"--include={packages}"),
            *('--aptopt=Acquire::Languages "none"', "--dpkgopt=path-exclude=/usr/share/doc/*"),
            *(suite, str(folder), f"deb {debian_archive()} {suite} main"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "TMPDIR"},
    )
    assert result.returncode == 0, result.stderr[-2000:]
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "console-getty.service"):
        (folder / "etc/systemd/system" / unit).symlink_to("/dev/null")
    (folder / "etc/machine-id").write_text(
        "00000000000000000000000000000001\n"
    )  # otherwise the first boot asks for settings
    (folder / "etc/hostname").write_text("container\n")


def debian_archive() -> str:
    """Return the address from which this machine gets Debian packages."""
    listing = ("apt-get", "indextargets", "--format", "$(ORIGIN) $(RELEASE) $(REPO_URI)", "Created-By: Packages")
    lines = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()
    for line in lines:
        origin, release, address = line.split(" ", 2)
        if origin == "Debian" and "-" not in release:
            return address
    pytest.skip("apt knows no Debian archive on this machine (sudo apt-get update)")


def wait_for(condition: Callable[[], T], seconds: float = 60) -> T:
    """Call a function until its result is true, and return that."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not true within {seconds} s: {condition}"
        time.sleep(0.2)
    return result


def run_program(
    command: Sequence[str], environment: Mapping[str, str], *, check: bool
) -> subprocess.CompletedProcess[str]:
    """Run a program without input, and show what it wrote if it must succeed and fails."""
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment
    )
    written = f"{result.stdout}\n{result.stderr}"
    assert not check or result.returncode == 0, f"{shlex.join(command)}: {result.returncode}\n{written}"
    return result


class Container:
    """A container with a copy of a tree. It runs until the end of the ``with`` block."""

    def __init__(
        self, tree: Path, folder: Path, mounts: Mapping[str, Path], options: Sequence[str] = NO_NETWORK
    ) -> None:
        """Prepare a container.

        Args:
            tree: the tree to copy and boot.
            folder: the folder of the copy.
            mounts: folders of this machine that are mounted read-only, by their paths in the container.
            options: of systemd-nspawn; without `NO_NETWORK`, the container has this machine's network.
        """
        self._tree, self.root = tree, folder / "root"
        self._console = folder / "console.log"
        self._options = [*(f"--bind-ro={path}:{target}" for target, path in mounts.items()), *options]
        self._boot: subprocess.Popen[bytes] | None = None
        self._init = 0

    def __enter__(self) -> Self:
        copy = ("cp", "-a", "--reflink=auto", str(self._tree), str(self.root))
        subprocess.run(copy, check=True)
        script = ("sh", "-euc", BOOT, "boot", f"--directory={self.root}", *self._options)
        with self._console.open("wb") as console:
            self._boot = subprocess.Popen([*UNSHARE, *script], stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            self._init = wait_for(self._find_init, 60)
            wait_for(self._is_booted)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._boot is not None
        self._boot.kill()
        self._boot.wait()
        remove = ("rm", "-rf", str(self.root))  # faster than Python
        subprocess.run(remove, check=True)

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the container as root."""
        enter = ("nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--net", "--pid")
        return run_program([*enter, *command], {**ENVIRONMENT, **environment}, check=check)

    def start_outside(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a program of this machine in the container's network, with a pipe for its output."""
        enter = ("nsenter", f"--target={self._init}", "--net")
        return subprocess.Popen([*enter, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def files(self) -> set[str]:
        """Return all files except logs and the state of systemd and the broker."""
        pruned = ("/var/log", "/var/lib/systemd", "/var/lib/mosquitto", "/var/tmp/systemd-private-*")  # noqa: S108
        exclude = [word for path in pruned for word in ("-path", path, "-prune", "-o")]
        return set(self.run("find", "/", "-xdev", *exclude, "-print").stdout.splitlines())

    def _is_booted(self) -> bool:
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {"running", "degraded"}

    def _find_init(self) -> int:
        """Return this machine's number of the container's process 1; 0 while there is none."""
        assert self._boot is not None
        assert self._boot.poll() is None, self._console.read_text(errors="replace")
        parents: dict[int, int] = {}
        inits = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                number, _, rest = path.read_text().partition(" (")
            except OSError:  # the process has just ended
                continue
            name, _, values = rest.rpartition(") ")
            parents[int(number)] = int(values.split()[1])
            if name == "systemd":
                inits.append(int(number))
        for init in inits:
            ancestor = init
            while ancestor in parents and ancestor != self._boot.pid:
                ancestor = parents[ancestor]
            if ancestor == self._boot.pid:
                return init
        return 0
