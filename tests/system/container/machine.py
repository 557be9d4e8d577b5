"""Podman in a network and with control groups that are not those of this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from tests.system.containers import run_program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Limits that also hold where this machine allows no higher ones.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
"""
# crun knows no machine with both versions of control groups, so the second is hidden where there are both.
SETUP = """
ip link set lo up
! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified
mkdir -p /run/netns /run/containers/networks
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /run/containers/networks
echo ready
exec cat
"""


class Machine:
    """What a machine has of its own for podman, until the end of the ``with`` block."""

    def __init__(self, folder: Path) -> None:
        self._configuration = folder / "containers.conf"

    def __enter__(self) -> Self:
        self._configuration.write_text(CONFIGURATION)
        unshare = ("unshare", "--mount", "--net", "--propagation=private", "sh", "-euc", SETUP)
        self._holder = subprocess.Popen(unshare, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate()

    def run(self, *command: str, check: bool = True, environment: Mapping[str, str] = MappingProxyType({})) -> str:
        """Run a program, and return what it writes."""
        enter = ("nsenter", f"--target={self._holder.pid}", "--mount", "--net")
        variables = {**os.environ, **environment, "CONTAINERS_CONF": str(self._configuration)}
        return run_program([*enter, *command], variables, check=check).stdout

    def podman(self, *arguments: str, check: bool = True) -> str:
        return self.run("podman", *shlex.split(os.environ.get("PODMAN_OPTIONS", "")), *arguments, check=check)
