"""Hiding the messages that native libraries print to standard error."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK: Final = threading.RLock()  # otherwise one thread could save the stream that another has redirected


@contextmanager
def hide_native_stderr() -> Iterator[None]:
    """Discard what C and C++ code writes to standard error; messages from Python are still printed.

    TensorFlow and the TFLite runtimes print progress messages there and have no setting to turn them off. Set
    ``FER_EDGE_NATIVE_LOG=1`` to see them.
    """
    if os.environ.get("FER_EDGE_NATIVE_LOG") or sys.stderr is None or _is_hidden():
        yield
        return
    with _LOCK:
        sys.stderr.flush()
        saved = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        original = sys.stderr
        try:
            os.dup2(null, 2)
            with os.fdopen(
                os.dup(saved), "w", buffering=1, encoding=original.encoding, errors="backslashreplace"
            ) as visible:
                sys.stderr = visible
                try:
                    yield
                finally:
                    sys.stderr = original
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


def _is_hidden() -> bool:
    """Return whether standard error is discarded already; a nested block would hide Python's messages, too."""
    return os.path.samestat(os.fstat(2), Path(os.devnull).stat())
