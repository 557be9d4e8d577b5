"""Reading tar archives of unknown origin, member by member; see `fer_edge.utils.archive_member`."""

from __future__ import annotations

import io
import tarfile
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from fer_edge.utils.archive_member import ArchiveMember, unpack_errors
from fer_edge.utils.bounded_file import open_regular
from fer_edge.utils.decompress import BLOCK, MAGIC_BYTES, UnpackedStream, UnpackError, unpacker_for
from fer_edge.utils.limits import ARCHIVE_HEADER_BYTES, ARCHIVE_MEMBERS

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_UNLIMITED: Final = 1 << 62


def tar_members(path: Path) -> Generator[ArchiveMember]:
    """Yield the files in a tar archive, compressed or not; each must be read before the next one is requested.

    Links, devices and sparse files are left out.

    Raises:
        DataError: the file cannot be read.
        UnpackError: it is not a tar archive, or a damaged one.
    """
    with open_regular(path) as file, unpack_errors():
        make = unpacker_for(file.read(MAGIC_BYTES))
        file.seek(0)
        stream = _TarStream(UnpackedStream(file.read, make) if make else file)
        with tarfile.open(fileobj=stream, mode="r:") as archive:  # type: ignore[call-overload]
            position = -1
            while (info := _next_header(archive, stream)) is not None:
                position += 1
                if position >= ARCHIVE_MEMBERS:
                    raise UnpackError(f"refused, it has more than {ARCHIVE_MEMBERS:,} members")
                if info.isfile() and not info.issparse():
                    yield ArchiveMember(position, info.name, info.size, info.size, partial(_open_tarred, archive, info))


def _next_header(archive: tarfile.TarFile, stream: _TarStream) -> tarfile.TarInfo | None:
    stream.budget = ARCHIVE_HEADER_BYTES
    info = archive.next()
    stream.budget = _UNLIMITED
    archive.members.clear()  # type: ignore[attr-defined] # otherwise it keeps every one in memory
    if sum(len(key) + len(str(value)) for key, value in archive.pax_headers.items()) > ARCHIVE_HEADER_BYTES:
        raise UnpackError("refused, its headers are too large")
    return info


def _open_tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    if file is None:
        raise UnpackError("not a file")
    return file


class _TarStream:
    """The bytes of an uncompressed tar, read forward only.

    Attributes:
        budget: bytes that may still be read; headers are read as a whole, however long they say they are.
    """

    def __init__(self, file: IO[bytes] | io.RawIOBase) -> None:
        self._file = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file, BLOCK)  # type: ignore[type-var]
        self._skips = isinstance(file, io.BufferedReader)
        self._position = 0
        self.budget = ARCHIVE_HEADER_BYTES

    def read(self, size: int) -> bytes:
        if size > self.budget:
            raise UnpackError("refused, its headers are too large")
        data = self._file.read(size)
        self._position += len(data)
        self.budget -= len(data)
        return data

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> int:
        if position < self._position:
            raise UnpackError("its headers are damaged")
        if self._skips:
            self._position = self._file.seek(position)
        while self._position < position:
            data = self._file.read(min(BLOCK, position - self._position))
            if not data:
                break
            self._position += len(data)
        return self._position
