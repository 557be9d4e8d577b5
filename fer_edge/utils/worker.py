"""What a process does first that works for another one of this program."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def serve() -> None:
    """Leave Ctrl-C to the process that gives the work, and end with it: nothing else tells that it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    above = multiprocessing.parent_process()
    if above is not None:
        threading.Thread(target=_end_with, args=(above.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
