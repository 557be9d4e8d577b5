"""Scratch hosts behind a real sshd, whose sudo and installer are fakes."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAKE = Path(__file__).with_name("fake_remote_install.py")


@dataclass(frozen=True)
class Host:
    """A scratch host: its root folder, and the folder of its temporary files."""

    name: str
    root: Path
    temporary: Path
    ssh_config: Path

    def brought(self) -> dict[str, bytes]:
        """Return the files that were copied here."""
        found = {path.name: path.read_bytes() for path in self.root.iterdir() if path.is_file()}
        return {name: content for name, content in found.items() if name != "status"}

    def install_program(self, changer: Path = FAKE) -> None:
        """Let a program be installed; the script changes the host, by default only seemingly."""
        program = self.root / "opt/fer-edge/current/bin/python"
        program.parent.mkdir(parents=True, exist_ok=True)
        script(program, f'[ "$1" = -IBc ] || exec {sys.executable} {changer} "$3"')

    def wait_until_clean(self) -> None:
        deadline = time.monotonic() + 60
        while files := list(self.temporary.iterdir()):
            assert time.monotonic() < deadline, files
            time.sleep(0.05)


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@contextlib.contextmanager
def private_sshd(parent: Path) -> Iterator[Callable[[str], None]]:
    """Yield a function that starts an sshd on the loopback device for a host, and configures ssh for it.

    The host's folder in ``parent`` has its name. Its program ``shell`` runs each ``$SSH_ORIGINAL_COMMAND``. The
    configuration for ssh is ``parent / "ssh_config"``.
    """
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    assert sshd, "these tests need sshd: sudo apt install openssh-server"
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's chroot
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", parent / name], check=True)  # noqa: S607
    ssh_config = parent / "ssh_config"
    ssh_config.touch()
    servers = []

    def start_sshd(folder: Path) -> int:
        """Start an sshd, and return its port."""
        log = folder / "sshd.log"
        for _ in range(5):  # another process may take the port first
            with socket.create_server(("127.0.0.1", 0)) as free:
                port: int = free.getsockname()[1]
            (folder / "sshd_config").write_text(
                f"ListenAddress 127.0.0.1:{port}\nHostKey {parent}/host_key\nPidFile none\n"
                f"AuthorizedKeysFile {parent}/user_key.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
                "PasswordAuthentication no\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
                f"ForceCommand {folder}/shell\n"
            )
            server = subprocess.Popen([sshd, "-D", "-f", folder / "sshd_config", "-E", log])
            servers.append(server)
            deadline = time.monotonic() + 60
            while server.poll() is None:
                if log.exists() and f"listening on 127.0.0.1 port {port}" in log.read_text():
                    return port
                assert time.monotonic() < deadline
                time.sleep(0.02)
        raise AssertionError(log.read_text())

    def start(name: str) -> None:
        port = start_sshd(parent / name)
        with ssh_config.open("a") as file:
            file.write(
                f"Host {name}\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
                f" IdentityFile {parent}/user_key\n IdentitiesOnly yes\n UserKnownHostsFile /dev/null\n"
                " StrictHostKeyChecking no\n LogLevel ERROR\n"
            )

    try:
        yield start
    finally:
        for server in servers:
            server.terminate()
            server.wait()


@contextlib.contextmanager
def scratch_hosts(parent: Path) -> Iterator[Callable[[str], Host]]:
    """Yield a function that makes a host, which ssh reaches by its name."""
    ssh_config = parent / "ssh_config"

    def make(name: str) -> Host:
        folder = parent / name
        host = Host(name, folder / "root", folder / "tmp", ssh_config)
        for path in (host.root, host.temporary, folder / "bin"):
            path.mkdir(parents=True)
        script(folder / "bin/systemctl", f"cat {host.root}/status")
        script(folder / "bin/sudo", '[ "$1" = -n ] || exit 1\nshift\nexec "$@"')
        # A venv without installing pip, which would take as long as everything else.
        script(folder / "python", f'exec {sys._base_executable} "$@"')  # type: ignore[attr-defined]
        script(folder / "pip", "exit 0")
        environment = f'mkdir -p "$3/bin" && cp {folder}/python {folder}/pip "$3/bin"'
        script(folder / "bin/python3", f'[ "$2" = venv ] && {environment}')
        # Undo what the user's shell sets up.
        script(
            folder / "shell",
            f"export PATH={folder}/bin:/usr/bin:/bin TMPDIR={host.temporary} DEPLOY_ROOT={host.root}\n"
            'case "$SSH_ORIGINAL_COMMAND" in */sftp-server) exec $SSH_ORIGINAL_COMMAND;; esac\n'
            f'exec sh -c "$(printf %s "$SSH_ORIGINAL_COMMAND" | sed "s#/\\(etc\\|opt\\)/fer-edge/#{host.root}&#")"',
        )
        start(name)
        return host

    with private_sshd(parent) as start:
        yield make
