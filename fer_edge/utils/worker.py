"""Setup of worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def init_worker() -> None:
    """Initialize a worker process.

    The process ignores Ctrl-C, which its parent handles, and exits when its parent exits.  Without a thread that waits
    for that, a worker would not notice that its parent was killed.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_with, args=(parent.sentinel,), daemon=True).start()


def _exit_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
