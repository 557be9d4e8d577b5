"""``fer-edge deploy``: wheel, model and configuration onto hosts, over the user's own ssh.

Each host runs ``deploy.sh``, which owns a temporary folder there: whatever ends it, the folder goes.
What is then done to the host is ``arrival``'s.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, InputError
from fer_edge_device.install.remote_install import MARK, Measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from fer_edge_device.install.bundle import Parcel

_AT_ONCE: Final = 8  # hosts
_IDLE: Final = 60  # seconds that a connection is kept for nothing
_KEPT: Final = 12  # lines of a step's output
_OPTIONS: Final = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),  # a network that has gone is noticed in a minute
)
_SSH_FAILED: Final = 255
_MEASURED: Final = msgspec.json.Decoder(Measured)  # for all threads: msgspec crashes where two are first with a type


class _HostError(FerEdgeError):
    """Raised when a host cannot be deployed to."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a host.

    Attributes:
        host: as it was given.
        version: that runs there now; empty where that is not known.
        failed: the step that failed; empty where none did.
        said: the last lines of the step that failed.
        measured: latencies there; None where they were not measured.
    """

    host: str
    version: str = ""
    failed: str = ""
    said: tuple[str, ...] = ()
    measured: Measured | None = None


def deploy(
    hosts: Sequence[str],
    parcel: Parcel,
    *,
    told: Callable[[str, str], None],
    ssh_config: Path | None = None,
) -> list[Outcome]:
    """Bring a parcel to hosts, several at once.

    Args:
        hosts: as ssh takes them, ``user@host`` or a name of its configuration.
        parcel: what they get.
        told: called with a host and the step that begins there, from several threads.
        ssh_config: instead of the user's own configuration of ssh.

    Returns:
        What became of each, in their order.

    Raises:
        InputError: ssh is missing, or a host's name is none; nothing was changed anywhere.
    """
    for program in ("ssh", "scp"):
        if shutil.which(program) is None:
            raise InputError(f"{program} is not installed here: sudo apt install openssh-client")
    for host in hosts:
        if not host or host.startswith("-") or re.search(r"\s", host):
            raise InputError(f"{host!r}: not a host; give user@host")
    # Short paths, for a socket's has at most 108 bytes.
    with (
        tempfile.TemporaryDirectory(prefix="fer-edge-") as sockets,
        tempfile.TemporaryDirectory(prefix="fer-edge-") as brought,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        parcel.lay_out(Path(brought))
        links = [_Link(host, Path(sockets), ssh_config) for host in dict.fromkeys(hosts)]
        try:
            refused = list(pool.map(_Link.connect, links))
            unknown = [said for said in refused if "Could not resolve hostname" in said]
            if len(unknown) == len(links):  # one of several may just be switched off
                raise InputError("; ".join(unknown))
            sessions = [_Session(link, parcel, Path(brought), told) for link in links]
            return list(pool.map(_Session.run, sessions, refused))
        finally:
            # Also when Ctrl-C comes: then threads still wait for their hosts.
            for link in links:
                link.end()
            pool.shutdown(cancel_futures=True)


def _advice(said: str, host: str) -> str:
    if "Permission denied" in said:
        return f"let your key in: ssh-copy-id {host}"
    if "Host key verification failed" in said:
        return f"look at its key once, by hand: ssh {host}"
    return "is it switched on, on the network, and its ssh enabled?"


class _Link:
    """One connection to a host, which every command and copy shares."""

    def __init__(self, host: str, folder: Path, ssh_config: Path | None) -> None:
        self.host = host
        own = ["-F", str(ssh_config)] if ssh_config else []
        self._options = [*own, *_OPTIONS, "-o", f"ControlPath={folder}/%C"]
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._lock = threading.Lock()

    def connect(self) -> str:
        """Connect; what ssh says where it cannot."""
        # It ends by itself when this process cannot end it any more; without it, each command connects anew.
        own = ("-o", "ControlMaster=yes", "-o", f"ControlPersist={_IDLE}", "-fN")
        master = ["ssh", *self._options, *own, "--", self.host]
        # A file, for the connection stays when ssh has gone, and would keep a pipe open.
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            status = self.wait(self._start(master, output=said))
            said.seek(0)
            lines = said.read().strip().splitlines()
        return "" if status == 0 else (lines or [f"ssh ended with status {status}"])[-1]

    def session(self, command: str) -> subprocess.Popen[str]:
        """Start a command there, with pipes to and from it."""
        return self._start(["ssh", *self._options, "--", self.host, command])

    def copy(self, paths: Iterable[Path], there: str) -> None:
        """Copy files into a folder there.

        Raises:
            _HostError: scp failed.
        """
        process = self._start(["scp", *self._options, "-q", "--", *map(str, paths), f"{self.host}:{there}/"])
        said, _ = process.communicate()
        if self.wait(process):
            raise _HostError((said.strip().splitlines() or ["scp failed"])[-1])

    def wait(self, process: subprocess.Popen[str]) -> int:
        """Wait for what was started to end, and give its status."""
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        return status

    def end(self) -> None:
        """End what still runs, and the connection."""
        with self._lock:
            self._ended = True
            for process in self._running:
                process.terminate()
        leave = ["ssh", *self._options, "-O", "exit", "--", self.host]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(leave, capture_output=True, check=False, timeout=10)  # noqa: S603 - ssh

    def _start(self, command: list[str], output: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
        with self._lock:
            if self._ended:
                raise _HostError("stopped")
            process = subprocess.Popen(  # noqa: S603 - ssh or scp
                command,
                stdin=subprocess.PIPE if output == subprocess.PIPE else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            self._running.add(process)
            return process


class _Session:
    """A run of ``deploy.sh`` on a host."""

    def __init__(self, link: _Link, parcel: Parcel, folder: Path, told: Callable[[str, str], None]) -> None:
        self._link, self._parcel, self._folder, self._told = link, parcel, folder, told
        self._said: deque[str] = deque(maxlen=_KEPT)
        self._step = "connect"

    def run(self, refused: str) -> Outcome:
        """Bring the parcel, unless the connection was refused; what fails is told in the outcome."""
        if refused:
            return Outcome(self._link.host, failed="connect", said=(refused, _advice(refused, self._link.host)))
        try:
            return self._bring()
        except (FerEdgeError, OSError) as error:  # it was stopped, or this machine has no room for a process more
            return Outcome(self._link.host, failed=self._step, said=(str(error),))

    def _bring(self) -> Outcome:
        script = files("fer_edge_device.install").joinpath("deploy.sh").read_text(encoding="utf-8")
        process = self._link.session(shlex.join(["sh", "-c", script, "deploy.sh"]))
        marks: dict[str, str] = {}
        try:
            self._follow(process, marks)
        except FerEdgeError as error:
            self._said.append(str(error))
        except BrokenPipeError:
            self._said.append("the connection ended while files were copied")
        finally:
            # The end of its input is what ends the script, wherever it is.
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
            status = self._link.wait(process)
        if status == _SSH_FAILED:
            self._said.append("the connection was lost")
        well = "done" in marks
        return Outcome(
            self._link.host,
            version=marks.get("version", ""),
            failed="" if well else self._step,
            said=() if well else tuple(self._said),
            measured=_MEASURED.decode(marks["done"]) if well else None,
        )

    def _follow(self, process: subprocess.Popen[str], marks: dict[str, str]) -> None:
        """Follow the script to its end, and note what it tells."""
        if process.stdin is None or process.stdout is None:  # which they never are: they are pipes
            return
        for line in process.stdout:
            if not line.startswith(MARK):
                self._said.append(line.rstrip())
                continue
            mark, _, rest = line.removeprefix(MARK).strip().partition(" ")
            marks[mark] = rest
            if mark == "step":
                self._begin(rest)
            elif mark == "back":
                self._told(self._link.host, rest)
            elif mark == "folder":
                self._begin("copy")
                self._link.copy(self._folder.iterdir(), rest)
                process.stdin.write(f"{self._parcel.order.wheel}\n")
                process.stdin.flush()

    def _begin(self, step: str) -> None:
        self._said.clear()
        self._step = step
        self._told(self._link.host, step)
