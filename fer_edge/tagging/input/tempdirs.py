"""Temporary folders for fetched and unpacked files.

Each process holds a lock on each of its folders. If a process is killed, its folders stay, but its locks go; the next
run finds the folders without a lock and deletes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = "fer-edge-tag-"


@contextmanager
def folder() -> Iterator[Path]:
    """Create a folder that is deleted at the end of the block.

    Raises:
        DataError: the folder cannot be created.
    """
    try:
        path, lock = _create_locked()
    except OSError as error:
        raise write_error(tempfile.gettempdir(), error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def clean() -> None:
    """Delete the folders of processes that were killed."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder is writable, so none can have been left
        return
    for path in temporary.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's folder, one in use, or one that is gone by now
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def write_error(name: str, error: OSError) -> DataError:
    """Return the error for a file that cannot be written into a temporary folder."""
    return DataError(
        f"{name}: cannot be written to {tempfile.gettempdir()} ({error.strerror}); set TMPDIR to another folder"
    )


def size_error(name: str, max_bytes: int) -> DataError:
    """Return the error for a file with more than ``max_bytes`` bytes."""
    return DataError(f"{name}: refused, it has more than {max_bytes / 1e6:.0f} MB (see --max-fetch)")


def _create_locked() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Until the folder is locked, `clean` of another process may take it for an abandoned one and delete it.
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                return path, lock
        os.close(lock)
