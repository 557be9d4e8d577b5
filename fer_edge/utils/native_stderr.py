"""Keeping native libraries' own chatter off standard error."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ONE_THREAD: Final = threading.RLock()  # else one would take for the true one what another has put there


@contextmanager
def native_stderr_hidden() -> Iterator[None]:
    """Send what C and C++ code writes to standard error nowhere; Python's own messages still come through.

    TensorFlow and the TFLite runtimes print progress notes there that no setting of theirs switches off.
    Set ``FER_EDGE_NATIVE_LOG=1`` to see them.
    """
    if os.environ.get("FER_EDGE_NATIVE_LOG") or sys.stderr is None or _is_hidden():
        yield
        return
    with _ONE_THREAD:
        sys.stderr.flush()
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        python = sys.stderr
        try:
            os.dup2(nowhere, 2)
            with os.fdopen(
                os.dup(kept), "w", buffering=1, encoding=python.encoding, errors="backslashreplace"
            ) as shown:
                sys.stderr = shown
                try:
                    yield
                finally:
                    sys.stderr = python
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)


def _is_hidden() -> bool:
    """Whether standard error goes nowhere already, as within another such block: a second would hide Python's too."""
    return os.path.samestat(os.fstat(2), Path(os.devnull).stat())
