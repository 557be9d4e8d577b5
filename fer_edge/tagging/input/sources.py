"""What there is to look at: found while it is looked at, in an order that is always the same, in constant memory."""

from __future__ import annotations

import glob
import hashlib
import heapq
import itertools
import math
import os
import stat
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, AnyStr, Final, Literal, NamedTuple

import msgspec

from fer_edge.errors import DataError, InputError, printable
from fer_edge.tagging.input import archives, remote, tempdirs
from fer_edge.tagging.input.video import VIDEO_SUFFIXES, parts
from fer_edge.utils.image_io import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_IMAGES: Final = (*IMAGE_SUFFIXES, ".avif", ".gif", ".heic", ".heif", ".jp2")
_MANY_IN_ONE: Final = (*VIDEO_SUFFIXES, *archives.SUFFIXES)
_TAKEN: Final = (*_IMAGES, *_MANY_IN_ONE)
_TAKEN_BYTES: Final = tuple(map(os.fsencode, _TAKEN))
_SORTED_TOGETHER: Final = 50_000  # names; those of a larger folder wait on disk

_Identity = tuple[int, int]  # device and inode


class Source(msgspec.Struct, frozen=True):
    """An image, or a part of a video.

    Attributes:
        path: what to call it.
        place: the file or address to read it from.
        kind: what it is.
        stamp: changes when it does.
        data: the image itself, where it comes out of an archive.
        number: of an image or video in an archive: its place there.
        begin: first second of a part of a video.
        end: the second before which it ends.
        error: why it cannot be looked at; empty where it can.
    """

    path: str
    place: str
    kind: Literal["file", "video", "member"] = "file"
    stamp: str = ""
    data: bytes = b""
    number: int | None = None
    begin: float = 0.0
    end: float = math.inf
    error: str = ""

    @property
    def key(self) -> bytes:
        """What no other source has; it tells no address, which may have a password in it."""
        return hashlib.sha256(os.fsencode(f"{self.place}\0{self.path}\0{self.begin}\0{self.number}")).digest()


class Pending(NamedTuple):
    """A source, and what reads its data where that must be done before the next one is found."""

    source: Source
    read: Callable[[], bytes] | None = None

    def ready(self) -> Source:
        """The source with its data, or with why there is none."""
        if self.read is None:
            return self.source
        try:
            return msgspec.structs.replace(self.source, data=self.read())
        except DataError as error:
            return msgspec.structs.replace(self.source, error=str(error))


class Sources:
    """Everything under some files, folders, archives, videos, patterns and addresses.

    What is in a folder comes in the order of the bytes of its path, whatever the order on the disk.  A file that is
    named is taken whatever its ending; in folders and archives only known endings are.
    """

    def __init__(
        self, inputs: Sequence[str], *, every: float | None = None, leave_out: Iterable[Path] = (), most: int = 0
    ) -> None:
        """Say what is looked at.

        Args:
            inputs: files, folders, patterns, addresses; ``-`` for a list of them on standard input, one a line or, as
                of ``find -print0``, with a NUL after each.
            every: seconds between the frames of a video that are looked at; None for every frame.
            leave_out: folders that are not looked into, because results are written there.
            most: bytes that an archive at an address may have.

        Raises:
            InputError: one is not there, or standard input is closed.
            MissingExtraError: an address is given, and what reads it is not installed.
        """
        self._inputs, self._every = tuple(dict.fromkeys(inputs)), every
        self._left_out, self._most = tuple(leave_out), most
        for one in self._inputs:
            if remote.is_address(one):
                remote.check(one)
            elif one == "-" and sys.stdin is None:
                raise InputError("-: standard input is closed; give a list there, or paths")
            elif one != "-" and not os.path.lexists(one) and next(_matches(one), None) is None:
                raise InputError(f"{printable(one)}: no such file or folder")

    def __iter__(self) -> Iterator[Pending]:
        """Find them one by one."""
        entered = {identity for path in self._left_out if (identity := _identity(path))}
        for one in self._inputs:
            if one == "-":
                for line in _lines(sys.stdin.fileno()):
                    yield from self._found(line, entered)
            elif remote.is_address(one) or os.path.lexists(one):
                yield from self._found(one, entered)
            else:
                for match in _in_order(map(os.fsencode, _matches(one))):
                    yield from self._found(os.fsdecode(match), entered)

    def _found(self, one: str, entered: set[_Identity]) -> Iterator[Pending]:
        if remote.is_address(one):
            for found in remote.find(one, _TAKEN):
                yield from self._far(found)
        elif _is_folder(one):
            named = {os.path.realpath(other) for other in self._inputs if other not in {"-", one}}
            yield from self._inside(one, entered, (), {path for path in named if not _is_folder(path)})
        else:
            yield from self._file(one)

    def _far(self, found: remote.Found) -> Iterator[Pending]:
        ending = found.path.lower()
        source = Source(found.path, found.address, stamp=found.stamp, error=found.error)
        if found.error or not ending.endswith(_MANY_IN_ONE):
            yield Pending(source)
        elif not ending.endswith(archives.SUFFIXES):
            yield Pending(msgspec.structs.replace(source, kind="video"))
        else:
            yield from self._far_archive(source)

    def _far_archive(self, source: Source) -> Iterator[Pending]:
        try:
            with tempdirs.folder() as folder:
                archive = folder / PurePosixPath(source.path).name
                remote.fetch(source.place, archive, self._most)
                for pending in _members(archive, source.path, source.place, source.stamp):
                    member = pending.source
                    if member.kind == "video":
                        error = (
                            f"{printable(member.path)}: a video in an archive at an address; fetch the archive first"
                        )
                        yield Pending(msgspec.structs.replace(member, error=error))
                    else:
                        yield pending
        except DataError as error:
            yield Pending(msgspec.structs.replace(source, error=str(error)))

    def _inside(
        self, folder: str, entered: set[_Identity], above: tuple[_Identity, ...], named: set[str]
    ) -> Iterator[Pending]:
        """What is in a folder and those in it, each folder once."""
        identity = _identity(Path(folder))
        if identity in above:
            yield _refusal(folder, "a link to a folder that it is in, which would have no end; left out")
        if identity is None or identity in entered:
            return
        entered.add(identity)
        try:
            for name in _in_order(_entries(folder)):
                path = os.path.join(folder, os.fsdecode(name.rstrip(b"/")))  # noqa: PTH118 - a million Paths take long
                if name.endswith(b"/"):
                    yield from self._inside(path, entered, (*above, identity), named)
                elif not named or os.path.realpath(path) not in named:
                    yield from self._file(path)
        except OSError as error:
            yield _refusal(folder, f"cannot be listed ({error.strerror})")

    def _file(self, path: str) -> Iterator[Pending]:
        ending = path.lower()
        stamp = _stamp(path)
        if ending.endswith(archives.SUFFIXES):
            yield from _members(Path(path), path, path, stamp)
        elif ending.endswith(tuple(VIDEO_SUFFIXES)):
            for begin, end in parts(Path(path), self._every):
                yield Pending(Source(path, path, "video", stamp, begin=begin, end=end))
        else:
            yield Pending(Source(path, path, stamp=stamp))


def _members(archive: Path, shown: str, place: str, stamp: str) -> Iterator[Pending]:
    """What is in an archive, which comes from a place."""
    for member in archives.members(archive, _IMAGES, shown):
        path = f"{shown}/{member.name}".rstrip("/")
        kind: Literal["video", "member"] = "video" if member.is_video else "member"
        yield Pending(Source(path, place, kind, stamp, number=member.number, error=member.error), member.read)


def count(inputs: Sequence[str]) -> int | None:
    """How many images there are; None where that shows only on the way: in archives, videos, lists and far away."""
    folders: list[str] = []
    entered: set[_Identity | None] = {None}
    total = 0
    for one in inputs:
        if not os.path.lexists(one) or one.lower().endswith(_MANY_IN_ONE):
            return None
        if _is_folder(one):
            folders.append(one)
        else:
            total += 1
    while folders:
        folder = folders.pop()
        identity = _identity(Path(folder))
        if identity in entered:
            continue
        entered.add(identity)
        try:
            for name in map(os.fsdecode, _entries(folder)):
                if name.lower().endswith(_MANY_IN_ONE):
                    return None
                if name.endswith("/"):
                    folders.append(os.path.join(folder, name))  # noqa: PTH118 - a million Paths take long
                else:
                    total += 1
        except OSError:
            return None
    return total


def _entries(folder: str) -> Iterator[bytes]:
    """Names in a folder that may be of interest; those of folders end in a slash."""
    with os.scandir(os.fsencode(folder)) as entries:
        for entry in entries:
            if _leads_inside(entry):
                yield entry.name + b"/"
            # A link that leads nowhere is an image that cannot be read, and says so in its row.
            elif entry.name.lower().endswith(_TAKEN_BYTES) and (entry.is_symlink() or entry.is_file()):
                yield entry.name


def _leads_inside(entry: os.DirEntry[AnyStr]) -> bool:
    """Whether it is a folder or a link to one; `DirEntry.is_dir` raises at a link to itself."""
    return _is_folder(entry.path) if entry.is_symlink() else entry.is_dir()


def _is_folder(path: str | bytes) -> bool:
    """Whether there is a folder that can be seen; `Path.is_dir` raises where it may not look or links have no end."""
    return os.path.isdir(path)  # noqa: PTH112 - see above


def _in_order(names: Iterable[bytes]) -> Iterator[bytes]:
    """Sort names of which there may be too many for memory: runs of them, sorted, wait in files and are merged."""
    names = iter(names)
    first = sorted(itertools.islice(names, _SORTED_TOGETHER))
    if len(first) < _SORTED_TOGETHER:
        yield from first
        return
    with ExitStack() as opened:
        runs = [opened.enter_context(_on_disk(first))]
        while some := sorted(itertools.islice(names, _SORTED_TOGETHER)):
            runs.append(opened.enter_context(_on_disk(some)))
        for line in heapq.merge(*runs):
            yield line[:-1].replace(b"\0", b"\n")


def _on_disk(names: list[bytes]) -> IO[bytes]:
    file = tempfile.TemporaryFile(buffering=1 << 14)  # noqa: SIM115 - it is read long after
    # A name may hold a line feed, but never a NUL.
    file.writelines(name.replace(b"\n", b"\0") + b"\n" for name in names)
    file.seek(0)
    return file


def _matches(pattern: str) -> Iterator[str]:
    """The paths that a pattern stands for; unlike that of `glob`, its ``**`` ends where links between folders loop."""
    before, deep, after = pattern.partition("**/")
    if not deep or (before and not before.endswith("/")):
        yield from glob.iglob(pattern)  # noqa: PTH207 - a Path would lose what the user wrote
        return
    entered: set[_Identity] = set()
    for top in glob.iglob(before) if before else [""]:  # noqa: PTH207 - likewise
        for folder in _folders(top, entered):
            yield from _matches(os.path.join(glob.escape(folder), after))  # noqa: PTH118 - likewise


def _folders(folder: str, entered: set[_Identity]) -> Iterator[str]:
    """A folder and those in it, each once, but hidden ones."""
    identity = _identity(Path(folder))
    if identity is None or identity in entered:
        return
    entered.add(identity)
    yield folder
    try:
        with os.scandir(folder or os.curdir) as entries:
            inner = sorted(entry.name for entry in entries if not entry.name.startswith(".") and _leads_inside(entry))
    except OSError:
        return
    for name in inner:
        yield from _folders(os.path.join(folder, name), entered)  # noqa: PTH118 - a Path would lose what the user wrote


def _lines(descriptor: int) -> Iterator[str]:
    """The names in a list: each ends with a NUL where the first does, else as a line does, be it of Windows."""
    mark, rest = b"", b""
    while block := os.read(descriptor, 1 << 16):
        mark = mark or (b"\0" if b"\0" in block else b"\n")
        *whole, rest = (rest + block).split(mark)
        yield from _names(whole, mark)
    yield from _names([rest], mark)


def _names(pieces: Iterable[bytes], mark: bytes) -> Iterator[str]:
    for piece in pieces:
        if name := piece if mark == b"\0" else piece.removesuffix(b"\r"):
            yield os.fsdecode(name)


def _identity(folder: Path) -> _Identity | None:
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp(path: str) -> str:
    try:
        found = os.stat(path)  # noqa: PTH116 - a million Paths take long
    except OSError:
        return ""
    return f"{found.st_size}-{found.st_mtime_ns}" if stat.S_ISREG(found.st_mode) else ""


def _refusal(path: str, why: str) -> Pending:
    return Pending(Source(path, path, error=f"{printable(path)}: {why}"))
