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


@contextmanager
def show_work(text: str) -> Iterator[None]:
    """Show a text and the seconds so far while the block runs, if standard error is a terminal.

    Each time, the cursor goes back to the start of the line, so that a warning overwrites the text. A block within
    another one shows nothing.
    """
    if not sys.stderr.isatty() or not _line.acquire(blocking=False):
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_show, args=(text, is_over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        _line.release()


def _show(text: str, is_over: threading.Event) -> None:
    start = time.monotonic()
    if is_over.wait(_DELAY_S):
        return
    while True:
        sys.stderr.write(f"{_ERASE}{text}: {time.monotonic() - start:.0f} s\r")
        sys.stderr.flush()
        if is_over.wait(_INTERVAL_S):
            break
    sys.stderr.write(_ERASE)
    sys.stderr.flush()
