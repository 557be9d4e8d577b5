"""Writing files so that a reader sees the old one or the new one, never half of either."""

from __future__ import annotations

import errno
import os
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fer_edge.errors import FerEdgeError, InputError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its place when the block ends well.

    The temporary name keeps the ending of ``path``, for writers that choose a format by it.

    Raises:
        InputError: the folder is not there or cannot be written to.
        FerEdgeError: the disk is full.
    """
    path, temporary = _reserve(path)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file)  # else a power cut may leave the new name without the new content
        temporary.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # which does not say where
            raise FerEdgeError(f"{printable(str(path))}: cannot be written ({error.strerror}); make room") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def ensure_writable(path: Path) -> None:
    """Find out that a file cannot be written before the work is done that it is for.

    Raises:
        InputError: the folder is not there or cannot be written to.
    """
    _reserve(path)[1].unlink()


def check_ending(path: Path, option: str, *endings: str) -> None:
    """Refuse a name that is not of what is written, for it may be that of a model or an image.

    Raises:
        InputError: ``path`` has none of the endings, each with its dot.
    """
    if path.suffix.lower() not in endings:
        raise InputError(f"{option} {printable(str(path))}: end it in {' or '.join(endings)}")


def _reserve(path: Path) -> tuple[Path, Path]:
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise InputError(f"{printable(str(path))}: an address; this is written to files of this machine alone")
    path = path.resolve()  # a link stays a link
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():  # root would put a file in the place of /dev/null
            raise InputError(f"{path}: a device, pipe or socket; choose another place")
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror}); choose another place") from error
    return path, temporary
