"""Show on a terminal that slow work goes on."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_DELAY_S: Final = 1.0  # quick work shows nothing
_INTERVAL_S: Final = 0.5
_ERASE: Final = "\r\x1b[K"
_line = threading.Lock()  # held while a text is shown


class Work:
    """Work that is shown.

    Attributes:
        text: what it is.
        part: how much of it is done, in words; empty as long as nobody knows.
    """

    def __init__(self, text: str) -> None:
        """Begin."""
        self.text, self.part = text, ""

    def count(self, done: int, total: int) -> None:
        """Say how many things are done, and how many there are."""
        self.part = f"{done:,} of {total:,}, "


@contextmanager
def show_work(text: str) -> Iterator[Work]:
    """Show a text, how much is done and the seconds so far while the block runs, if standard error is a terminal.

    Each time, the cursor goes back to the start of the line, so that a warning overwrites the text. A block within
    another one shows nothing.
    """
    work = Work(text)
    if not sys.stderr.isatty() or not _line.acquire(blocking=False):
        yield work
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_show, args=(work, is_over), daemon=True)
    thread.start()
    try:
        yield work
    finally:
        is_over.set()
        thread.join()
        _line.release()


def _show(work: Work, is_over: threading.Event) -> None:
    start = time.monotonic()
    if is_over.wait(_DELAY_S):
        return
    while True:
        sys.stderr.write(f"{_ERASE}{work.text}: {work.part}{time.monotonic() - start:.0f} s\r")
        sys.stderr.flush()
        if is_over.wait(_INTERVAL_S):
            break
    sys.stderr.write(_ERASE)
    sys.stderr.flush()
