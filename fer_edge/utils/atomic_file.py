"""Writing files atomically: a reader sees the complete old file or the complete new one."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import tempfile
from typing import TYPE_CHECKING

from fer_edge.errors import FerEdgeError, InputError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` if the block succeeds.

    The temporary name has the same suffix as ``path``, because some writers choose the format by the suffix.

    Raises:
        InputError: the folder cannot be created or written to.
        FerEdgeError: the disk is full.
    """
    path, temporary = _reserve(path, lambda temporary: temporary.touch(exist_ok=False))
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file)  # without this, a power cut may leave the new name with incomplete content
        temporary.replace(path)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:  # this error does not name the file
            raise FerEdgeError(f"{printable(str(path))}: cannot be written ({error.strerror}); make room") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Create a folder and those above it for this user alone, as far as they do not exist.

    Raises:
        OSError: one of them cannot be created.
    """
    for each in reversed([folder, *folder.parents]):
        if not each.is_dir():
            each.mkdir(0o700, exist_ok=True)


def ensure_writable(path: Path) -> None:
    """Check that a file can be written, before the work that produces its content starts.

    It leaves no file, even if the process is killed meanwhile.

    Raises:
        InputError: the folder cannot be created or written to.
    """
    _reserve(path, _create_unnamed)


def check_suffix(path: Path, option: str, *suffixes: str) -> None:
    """Check the suffix of an output file, so that a mistyped option cannot overwrite a model or an image.

    Args:
        path: the output file.
        option: the command-line option that gave it, for the error.
        suffixes: accepted suffixes, each with its dot.

    Raises:
        InputError: the file has another suffix.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {printable(str(path))}: end it in {' or '.join(suffixes)}")


def _reserve(path: Path, create: Callable[[Path], None]) -> tuple[Path, Path]:
    """Return the resolved path and a temporary path beside it, where a function has created a file."""
    if re.match(r"[A-Za-z][\w+.-]+:/", str(path)):
        raise InputError(f"{printable(str(path))}: an address; only a file on this machine can be written here")
    path = path.resolve()  # so that a link stays a link and its target is replaced
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():  # as root, replacing /dev/null with a file would succeed
            raise InputError(f"{path}: a device, pipe or socket; choose another place")
        create(temporary)
    except OSError as error:
        raise InputError(f"{path}: cannot write there ({error.strerror}); choose another place") from error
    return path, temporary


def _create_unnamed(path: Path) -> None:
    """Create and close a file that has no name, but fail where a file of this name would fail."""
    with contextlib.suppress(FileNotFoundError):
        path.lstat()  # the name may be too long
    # On a file system without unnamed files it has a name, a hidden one, until it is open.
    tempfile.TemporaryFile(dir=path.parent, prefix=".").close()
