"""Connections to hosts by the system's ssh."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from typing import IO, TYPE_CHECKING, Final

from fer_edge.errors import FerEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

SSH_FAILED: Final = 255  # ssh's exit status when the connection itself failed
_PERSIST: Final = 60  # seconds that an unused connection stays open
_OPTIONS: Final = (
    *("-o", "BatchMode=yes", "-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),  # notice a lost network within a minute
)


class SshError(FerEdgeError):
    """Raised when a command or a copy over ssh fails."""


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
        self._running: set[subprocess.Popen[str]] = set()
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

    def wait(self, process: subprocess.Popen[str]) -> int:
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
