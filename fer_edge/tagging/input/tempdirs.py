"""Folders for what is fetched or unpacked, which nobody leaves behind: a process holds a lock on each of its own.

A process that is killed cannot take its folders away.  Its locks go with it, and whoever comes next sees by that.
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
    """A folder that is there as long as the block; raises DataError where there can be none."""
    try:
        path, lock = _locked()
    except OSError as error:
        raise no_room(tempfile.gettempdir(), error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def clean() -> None:
    """Take away the folders of processes that were killed."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:  # nowhere can be written, so nothing can be left
        return
    for path in temporary.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, one that is in use, or gone by now
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def no_room(name: str, error: OSError) -> DataError:
    """What to raise when something cannot be written into such a folder."""
    return DataError(f"{name}: cannot be put into {tempfile.gettempdir()} ({error.strerror}); TMPDIR chooses another")


def too_large(name: str, most: int) -> DataError:
    """What to raise when something has more bytes than it may."""
    return DataError(f"{name}: refused, it has more than {most / 1e6:.0f} MB (see --max-fetch)")


def _locked() -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # Until it is locked, somebody else may take it for one that was left behind.
        try:
            lock = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                return path, lock
        os.close(lock)
