"""Setup of worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_PROGRESS_INTERVAL_S: Final = 1.0
_OOM_SCORE: Final = 500  # added to the score of 0 to 1000 by which the kernel chooses what to kill


class _Progress:
    """How this process reports that it works; set in worker processes."""

    report: Callable[[], None] | None = None
    reported_at = 0.0


def init_worker() -> None:
    """Initialize a worker process.

    The process ignores Ctrl-C, which its parent handles, and exits when its parent exits. Without a thread that waits
    for that, a worker would not notice that its parent was killed. When memory runs out, the kernel kills a worker,
    which can be started again, rather than the parent.
    """
    with suppress(OSError):  # no /proc, or already more
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE), "ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()


def on_progress(report: Callable[[], None]) -> None:
    """Set what `report_progress` calls in this process, from any thread."""
    _Progress.report = report


def report_progress() -> None:
    """Tell the parent process that work goes on, at most once a second; outside worker processes do nothing."""
    if _Progress.report is not None and time.monotonic() - _Progress.reported_at >= _PROGRESS_INTERVAL_S:
        _Progress.reported_at = time.monotonic()
        _Progress.report()


def _exit_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
