"""Bounding the memory of a native library for the time of a call."""

from __future__ import annotations

import os
import resource
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.utils.limits import LIBRARY_CALL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC_IS_MISSING: Final = "which need /proc: sudo mount -t proc proc /proc"
_PAGE_SIZE: Final = os.sysconf("SC_PAGE_SIZE")
_STATE: Final = Path("/proc/self/statm")
_THREAD_BYTES: Final = 80 << 20  # of addresses: a thread's stack and the arena of its allocations, mostly unused


class _Process:
    """This process.

    Attributes:
        is_ours: whether a limit may be set, because no program of somebody else runs in it.
    """

    is_ours = False


def own_process() -> None:
    """Declare that this process belongs to fer-edge, as the command line and its workers do."""
    _Process.is_ours = True


def own_bytes() -> int:
    """Return how many bytes of addresses this process has; see `is_known`."""
    return int(_STATE.read_text(encoding="ascii").split()[0]) * _PAGE_SIZE


def is_known() -> bool:
    """Return whether the system says how many addresses a process has, without which none can be bounded."""
    return _STATE.exists()


@contextmanager
def bounded_address_space(max_bytes: int = LIBRARY_CALL_BYTES, threads: int = 0) -> Iterator[None]:
    """Let allocations fail in a block that takes more memory than a limit.

    Do nothing in another program's process if it has other threads, whose allocations would fail, too.

    Args:
        max_bytes: what the block may take beyond what the process has.
        threads: how many threads the block may start.
    """
    if not (_Process.is_ours or threading.active_count() == 1) or not is_known():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = own_bytes() + max_bytes + threads * _THREAD_BYTES
    if soft != resource.RLIM_INFINITY and soft <= wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
