"""Find everything to tag: one source at a time, in a fixed order, in constant memory."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from fer_edge.errors import DataError, InputError, first_line, printable
from fer_edge.tagging.input import archives, remote, tempdirs
from fer_edge.tagging.input.listing import (
    CONTAINER_ENDINGS,
    IMAGE_ENDINGS,
    KNOWN_ENDINGS,
    Identity,
    expand_pattern,
    fingerprint_of,
    identity_of,
    is_folder,
    scan_folder,
    sorted_names,
)
from fer_edge.tagging.input.source import PendingSource, Source
from fer_edge.tagging.input.video import measure_video, split_video
from fer_edge.utils.file_kinds import ARCHIVE_SUFFIXES, VIDEO_SUFFIXES, LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_MAX_NAME: Final = 8192  # bytes of a name in a list; no path is as long


class Sources:
    """The images and videos in files, folders, archives, patterns and addresses.

    The content of a folder comes in the order of the bytes of its paths. A file that is named is taken whatever its
    ending; in folders and archives only files with a known ending are.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        *,
        null: bool = False,
        every: float | None = None,
        exclude: Iterable[Path] = (),
        max_bytes: int = 0,
    ) -> None:
        """Check the inputs.

        Args:
            inputs: files, folders, patterns and addresses; ``-`` reads a list of them from standard input, one a line
                or, as `find -print0` writes them, with a NUL after each.
            null: whether a NUL separates the names of the list in any case, so that they may contain line breaks.
            every: seconds between the processed frames of a video; None for every frame.
            exclude: folders to leave out, because results are written to them.
            max_bytes: largest archive to fetch from an address.

        Raises:
            InputError: an input does not exist, or standard input is closed.
            MissingExtraError: an input is an address, and a package that reads it is not installed.
        """
        self._inputs, self._every = tuple(dict.fromkeys(inputs)), every
        self._excluded, self._max_bytes = tuple(exclude), max_bytes
        self._null = null
        self.left_out = LeftOut()
        self.measure: Callable[[Path], float] = measure_video
        for path in self._inputs:
            if remote.is_address(path):
                remote.check_address(path)
            elif path == "-" and sys.stdin is None:
                raise InputError("-: standard input is closed; give a list there, or paths")
            elif path != "-" and not os.path.lexists(path) and next(expand_pattern(path), None) is None:
                raise InputError(f"{printable(path)}: no such file or folder")

    def __iter__(self) -> Iterator[PendingSource]:
        """Find the sources one by one, and count in `left_out` what is left out."""
        self.left_out = LeftOut()
        visited = {identity for path in self._excluded if (identity := identity_of(path))}
        for path in self._inputs:
            if path == "-":
                for line in _read_list(sys.stdin.fileno(), null=self._null):
                    yield from self._find(line, visited)
            elif remote.is_address(path) or os.path.lexists(path):
                yield from self._find(path, visited)
            else:
                for match in sorted_names(map(os.fsencode, expand_pattern(path))):
                    yield from self._find(os.fsdecode(match), visited)

    def _find(self, path: str, visited: set[Identity]) -> Iterator[PendingSource]:
        if remote.is_address(path):
            for file in remote.find(path, KNOWN_ENDINGS, self.left_out):
                yield from self._remote_file(file)
        elif is_folder(path):
            other_inputs = {os.path.realpath(other) for other in self._inputs if other not in {"-", path}}
            yield from self._folder(path, visited, (), {file for file in other_inputs if not is_folder(file)})
        else:
            yield from self._file(path)

    def _remote_file(self, file: remote.RemoteFile) -> Iterator[PendingSource]:
        name = file.display_name.lower()
        source = Source(file.display_name, file.address, fingerprint=file.fingerprint, error=file.error)
        if file.error or not name.endswith(CONTAINER_ENDINGS):
            yield PendingSource(source)
        elif not name.endswith(ARCHIVE_SUFFIXES):
            yield PendingSource(msgspec.structs.replace(source, kind="video"))
        else:
            yield from self._remote_archive(source)

    def _remote_archive(self, source: Source) -> Iterator[PendingSource]:
        try:
            with tempdirs.folder() as folder:
                archive = folder / PurePosixPath(source.path).name
                remote.fetch(source.uri, archive, self._max_bytes)
                for pending in _archive_members(archive, source.path, source.uri, source.fingerprint, self.left_out):
                    member = pending.source
                    if member.kind == "video":
                        error = (
                            f"{printable(member.path)}: a video in an archive at an address; fetch the archive first"
                        )
                        yield PendingSource(msgspec.structs.replace(member, error=error))
                    else:
                        yield pending
        except DataError as error:
            yield PendingSource(msgspec.structs.replace(source, error=str(error)))

    def _folder(
        self, folder: str, visited: set[Identity], parents: tuple[Identity, ...], other_inputs: set[str]
    ) -> Iterator[PendingSource]:
        """Find the sources in a folder and its subfolders; each folder is visited once.

        Args:
            folder: path of the folder.
            visited: folders that were visited before; this method adds to it.
            parents: the folders that this one lies in.
            other_inputs: real paths of files that the user named; they are not repeated here.
        """
        identity = identity_of(Path(folder))
        if identity in parents:
            yield _refusal(folder, "a link to a folder that contains it; left out, because it has no end")
        if identity is None or identity in visited:
            return
        visited.add(identity)
        try:
            for name in sorted_names(scan_folder(folder, self.left_out)):
                path = os.path.join(folder, os.fsdecode(name.rstrip(b"/")))  # noqa: PTH118 - Paths are slow for a million names
                if name.endswith(b"/"):
                    yield from self._folder(path, visited, (*parents, identity), other_inputs)
                elif not other_inputs or os.path.realpath(path) not in other_inputs:
                    yield from self._file(path)
        except OSError as error:
            yield _refusal(folder, f"cannot be listed ({error.strerror})")

    def _file(self, path: str) -> Iterator[PendingSource]:
        try:
            yield from self._parts_of_file(path)
        except Exception as error:  # noqa: BLE001 - what one file does ends no run
            yield _refusal(path, f"cannot be read ({type(error).__name__}: {first_line(error)})")

    def _parts_of_file(self, path: str) -> Iterator[PendingSource]:
        name = path.lower()
        fingerprint = fingerprint_of(path)
        if name.endswith(ARCHIVE_SUFFIXES):
            yield from _archive_members(Path(path), path, path, fingerprint, self.left_out)
        elif name.endswith(tuple(VIDEO_SUFFIXES)):
            for begin, end in split_video(self.measure(Path(path)), self._every):
                yield PendingSource(Source(path, path, "video", fingerprint, begin=begin, end=end))
        else:
            yield PendingSource(Source(path, path, fingerprint=fingerprint))


def _archive_members(
    archive: Path, display_name: str, uri: str, fingerprint: str, left_out: LeftOut
) -> Iterator[PendingSource]:
    """Find the sources in an archive that was read from ``uri``."""
    for member in archives.members(archive, IMAGE_ENDINGS, display_name, left_out):
        path = f"{display_name}/{member.name}".rstrip("/")
        kind: Literal["video", "member"] = "video" if member.is_video else "member"
        source = Source(path, uri, kind, fingerprint, member_position=member.position, error=member.error)
        yield PendingSource(source, member.read)


def _read_list(descriptor: int, *, null: bool) -> Iterator[str]:
    """Yield the names in a list: each ends with a NUL if the first does or ``null`` is set, else with a line break."""
    separator, rest = (b"\0" if null else b""), b""
    for block in _read_blocks(descriptor):
        separator = separator or (b"\0" if b"\0" in block else b"\n")
        *whole, rest = (rest + block).split(separator)
        yield from _decode_names(whole, separator)
        rest = rest[:_MAX_NAME]
    yield from _decode_names([rest], separator)


def _read_blocks(descriptor: int) -> Iterator[bytes]:
    """Yield the content of a list without its byte-order mark; UTF-16, as PowerShell writes it, becomes UTF-8."""
    start = b""
    while len(start) < len(codecs.BOM_UTF8) and (block := os.read(descriptor, len(codecs.BOM_UTF8) - len(start))):
        start += block
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    block = (start if is_utf16 else start.removeprefix(codecs.BOM_UTF8)) + os.read(descriptor, 1 << 16)
    while block:
        yield decoder.decode(block).encode() if is_utf16 else block
        block = os.read(descriptor, 1 << 16)


def _decode_names(pieces: Iterable[bytes], separator: bytes) -> Iterator[str]:
    for piece in pieces:
        # Lines may come from Windows.
        if name := piece if separator == b"\0" else piece.removesuffix(b"\r"):
            yield os.fsdecode(name[:_MAX_NAME])


def _refusal(path: str, reason: str) -> PendingSource:
    return PendingSource(Source(path, path, error=f"{printable(path)}: {reason}"))
