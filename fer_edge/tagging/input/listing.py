"""List folders and patterns in a fixed order, in constant memory, without endless loops of links."""

from __future__ import annotations

import glob
import heapq
import itertools
import os
import stat
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, AnyStr, Final

from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import open_regular
from fer_edge.utils.file_kinds import ARCHIVE_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, LeftOut, is_system_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

IMAGE_ENDINGS: Final = tuple(IMAGE_SUFFIXES)
CONTAINER_ENDINGS: Final = (*VIDEO_SUFFIXES, *ARCHIVE_SUFFIXES)  # files that hold several images
KNOWN_ENDINGS: Final = (*IMAGE_ENDINGS, *CONTAINER_ENDINGS)
_KNOWN_ENDINGS_BYTES: Final = tuple(map(os.fsencode, KNOWN_ENDINGS))
_TRANSPORT_STREAMS: Final = (b".ts", b".mts")  # endings that TypeScript has, too
_MAX_SORTED_IN_MEMORY: Final = 50_000  # names; longer listings are sorted on disk

Identity = tuple[int, int]  # device and inode of a folder


def sorted_names(names: Iterable[bytes]) -> Iterator[bytes]:
    """Sort names by their bytes; a listing too long for memory is sorted in runs, which wait in files."""
    names = iter(names)
    first = sorted(itertools.islice(names, _MAX_SORTED_IN_MEMORY))
    if len(first) < _MAX_SORTED_IN_MEMORY:
        yield from first
        return
    with ExitStack() as stack:
        runs = [stack.enter_context(_write_run(first))]
        while batch := sorted(itertools.islice(names, _MAX_SORTED_IN_MEMORY)):
            runs.append(stack.enter_context(_write_run(batch)))
        for line in heapq.merge(*runs):
            yield line[:-1].replace(b"\0", b"\n")


def _write_run(names: list[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile(buffering=1 << 14)  # noqa: SIM115 - the caller closes it
    # A name may hold a line feed, but never a NUL.
    file.writelines(name.replace(b"\n", b"\0") + b"\n" for name in names)
    file.seek(0)
    return file


def scan_folder(folder: str, left_out: LeftOut) -> Iterator[bytes]:
    """Yield the names of subfolders, with a slash at the end, and of images, videos and archives.

    Args:
        folder: the folder.
        left_out: counts the files and folders that are left out.

    Raises:
        OSError: the folder cannot be listed.
    """
    with os.scandir(os.fsencode(folder)) as entries:
        for entry in entries:
            if is_system_name(entry.name):
                left_out.system += 1
            elif _is_folder_entry(entry):
                yield entry.name + b"/"
            # A broken link counts as an image that cannot be read; its row says so.
            elif _has_known_kind(entry) and (entry.is_symlink() or entry.is_file()):
                yield entry.name
            else:
                left_out.add_other_kind(entry.name)


def _has_known_kind(entry: os.DirEntry[bytes]) -> bool:
    name = entry.name.lower()
    if not name.endswith(_TRANSPORT_STREAMS):
        return name.endswith(_KNOWN_ENDINGS_BYTES)
    try:
        with open_regular(Path(os.fsdecode(entry.path))) as file:
            start = file.read(5)
    except (OSError, DataError):
        return True  # its row says why
    return b"G" in {start[:1], start[4:]}  # each packet begins with this byte; cameras write four others before it


def expand_pattern(pattern: str) -> Iterator[str]:
    """Yield the paths that match a pattern; unlike `glob`, ``**`` stops where links between folders form a loop."""
    before, recursive, after = pattern.partition("**/")
    if not recursive or (before and not before.endswith("/")):
        yield from glob.iglob(pattern)  # noqa: PTH207 - a Path would not keep the path as the user wrote it
        return
    visited: set[Identity] = set()
    for top in glob.iglob(before) if before else [""]:  # noqa: PTH207 - likewise
        for folder in _walk_folders(top, visited):
            yield from expand_pattern(os.path.join(glob.escape(folder), after))  # noqa: PTH118 - likewise


def _walk_folders(folder: str, visited: set[Identity]) -> Iterator[str]:
    """Yield a folder and its subfolders, each once, without hidden ones and those of systems."""
    identity = identity_of(Path(folder))
    if identity is None or identity in visited:
        return
    visited.add(identity)
    yield folder
    try:
        with os.scandir(folder or os.curdir) as entries:
            names = sorted(
                entry.name for entry in entries if not is_system_name(entry.name) and _is_folder_entry(entry)
            )
    except OSError:
        return
    for name in names:
        yield from _walk_folders(os.path.join(folder, name), visited)  # noqa: PTH118 - likewise


def count_images(inputs: Sequence[str]) -> int | None:
    """Count the images of some inputs.

    Returns:
        The number of images; None if it shows only while they are processed, as with archives, videos, lists and
        addresses.
    """
    folders: list[str] = []
    visited: set[Identity | None] = {None}
    total = 0
    for path in inputs:
        if not os.path.lexists(path) or path.lower().endswith(CONTAINER_ENDINGS):
            return None
        if is_folder(path):
            folders.append(path)
        else:
            total += 1
    while folders:
        folder = folders.pop()
        identity = identity_of(Path(folder))
        if identity in visited:
            continue
        visited.add(identity)
        try:
            for name in map(os.fsdecode, scan_folder(folder, LeftOut())):
                if name.lower().endswith(CONTAINER_ENDINGS):
                    return None
                if name.endswith("/"):
                    folders.append(os.path.join(folder, name))  # noqa: PTH118 - Paths are slow for a million names
                else:
                    total += 1
        except OSError:
            return None
    return total


def _is_folder_entry(entry: os.DirEntry[AnyStr]) -> bool:
    """Return whether an entry is a folder or a link to one; `DirEntry.is_dir` raises for a link to itself."""
    return is_folder(entry.path) if entry.is_symlink() else entry.is_dir()


def is_folder(path: str | bytes) -> bool:
    """Return whether a path is a folder; `Path.is_dir` raises where access is denied or links form a loop."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def identity_of(folder: Path) -> Identity | None:
    """Return the device and inode of a folder; None if it cannot be read."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def fingerprint_of(path: str) -> str:
    """Return a text that changes when a file does; empty if the path is no regular file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Paths are slow for a million names
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}" if stat.S_ISREG(status.st_mode) else ""
