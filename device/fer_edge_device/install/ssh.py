"""Connections to hosts by the system's ssh."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Any, Final

from fer_edge.errors import FerEdgeError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

SSH_FAILED: Final = 255  # ssh's exit status when the connection itself failed
_PERSIST: Final = 60  # seconds that an unused connection stays open
_OPTIONS: Final = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),  # notice a lost network within a minute
)


class SshError(FerEdgeError):
    """Raised when a command or a copy over ssh fails."""


def check_hosts(hosts: Sequence[str]) -> None:
    """Check that ssh is here, and that hosts look like hosts.

    Raises:
        InputError: ssh is missing, or a host name is invalid.
    """
    for program in ("ssh", "scp"):
        if shutil.which(program) is None:
            raise InputError(f"{program} is not installed on this machine: sudo apt install openssh-client")
    for host in hosts:
        if not host or host.startswith("-") or re.search(r"\s", host):
            raise InputError(f"{host!r}: not a host; give user@host")


def connect_advice(error: str, host: str) -> str:
    """Return what to do when connecting to a host gave an error."""
    if "Permission denied" in error:
        return f"install your key there: ssh-copy-id {host}"
    if "Host key verification failed" in error:
        return f"check its key once, by hand: ssh {host}"
    return "is it switched on and on the network, and is ssh enabled there?"


class SshConnection:
    """One connection to a host, which all commands and copies share.

    Attributes:
        host: as the user gave it.
    """

    def __init__(self, host: str, folder: Path, ssh_config: Path | None) -> None:
        """Prepare a connection.

        Args:
            host: ``user@host``, or a name from ssh's configuration.
            folder: a folder for the socket; its path must be short.
            ssh_config: a configuration file for ssh; None means the user's.
        """
        self.host = host
        config = ["-F", str(ssh_config)] if ssh_config else []
        self._options = [*config, *_OPTIONS, "-o", f"ControlPath={folder}/%C"]
        self._running: set[subprocess.Popen[Any]] = set()
        self._closed = False
        self._lock = threading.Lock()

    def connect(self) -> str:
        """Connect.

        Returns:
            ssh's message if it failed; otherwise empty.
        """
        # The connection closes by itself if this process cannot close it. Without it, each command would connect again.
        master = ("-o", "ControlMaster=yes", "-o", f"ControlPersist={_PERSIST}", "-fN")
        command = ["ssh", *self._options, *master, "--", self.host]
        # A file, because the connection outlives ssh and would keep a pipe open.
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            status = self.wait(self._start(command, output=output))
            output.seek(0)
            lines = output.read().strip().splitlines()
        return "" if status == 0 else (lines or [f"ssh ended with status {status}"])[-1]

    def start(self, command: str) -> subprocess.Popen[str]:
        """Start a command on the host, with pipes for its input and output."""
        return self._start(["ssh", *self._options, "--", self.host, command])

    def copy(self, paths: Iterable[Path], folder: str) -> None:
        """Copy files into a folder of the host.

        Raises:
            SshError: scp failed.
        """
        process = self._start(["scp", *self._options, "-q", "--", *map(str, paths), f"{self.host}:{folder}/"])
        output, _ = process.communicate()
        if self.wait(process):
            raise SshError((output.strip().splitlines() or ["scp failed"])[-1])

    def read(self, command: str, max_bytes: int) -> bytes:
        """Run a command on the host and return what it writes to its output.

        Args:
            command: the command; it has no input.
            max_bytes: the most that it may write.

        Raises:
            SshError: it failed, or wrote more.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as errors:  # a pipe that nobody reads could fill
            with self._lock:
                if self._closed:
                    raise SshError("stopped")
                process = subprocess.Popen(  # noqa: S603 - ssh
                    ["ssh", *self._options, "--", self.host, command],  # noqa: S607
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
                self._running.add(process)
            if process.stdout is None:  # impossible: it is a pipe
                return b""
            with process.stdout as output:
                content = output.read(max_bytes + 1)
                if len(content) > max_bytes:
                    process.terminate()
            status = self.wait(process)
            errors.seek(0)
            lines = errors.read(10_000).strip().splitlines()
        if len(content) > max_bytes:
            raise SshError(f"it sent more than {max_bytes / 1e6:.0f} MB, and was stopped")
        if status:
            raise SshError((lines or [f"a command ended with status {status}"])[-1])
        return content

    def wait(self, process: subprocess.Popen[Any]) -> int:
        """Wait for a process of this connection to end, and return its status."""
        status = process.wait()
        with self._lock:
            self._running.discard(process)
        return status

    def close(self) -> None:
        """Stop the running processes, and close the connection."""
        with self._lock:
            self._closed = True
            for process in self._running:
                process.terminate()
        command = ["ssh", *self._options, "-O", "exit", "--", self.host]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, check=False, timeout=10)  # noqa: S603 - ssh

    def _start(self, command: list[str], output: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
        with self._lock:
            if self._closed:
                raise SshError("stopped")
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
