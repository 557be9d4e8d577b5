"""Reading zip archives of unknown origin, member by member; see `fer_edge.utils.archive_member`."""

from __future__ import annotations

import io
import itertools
import struct
import threading
import zipfile
import zlib
from bz2 import BZ2Decompressor
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Final

from fer_edge.errors import DataError, InputError
from fer_edge.utils.archive_member import ArchiveMember, unpack_errors
from fer_edge.utils.bounded_file import open_regular
from fer_edge.utils.decompress import BLOCK, STEP, Inflater, UnpackedStream, UnpackError, lzma_of_zip
from fer_edge.utils.limits import ARCHIVE_DIRECTORY_BYTES
from fer_edge.utils.words import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fer_edge.utils.decompress import Decompressor

_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_LZMA_HEADER: Final = struct.Struct("<2xH")
_ENCRYPTED: Final = 0x1 | 0x40
_UTF8: Final = 0x800


class ZipReader:
    """The members of a zip archive; several threads may read them at a time.

    Attributes:
        members: the files in the archive, in its order.
        start: position of the first member in the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Read the directory of an archive.

        Args:
            file: the archive, which must stay open; data before it are allowed.

        Raises:
            UnpackError: it is not a zip archive, or a damaged one.
        """
        self._file, self._lock = file, threading.Lock()
        self._length = file.seek(0, io.SEEK_END)
        with unpack_errors(), zipfile.ZipFile(_LimitedReader(file)) as archive:
            self._infos = infos = archive.infolist()
        self.start = min((info.header_offset for info in infos), default=self._length)
        if not 0 <= self.start <= self._length:
            raise UnpackError("its directory is damaged")
        _refuse_overlaps(infos)
        self.members = tuple(
            ArchiveMember(number, info.filename, info.file_size, self._packed_size(info), partial(self._open, info))
            for number, info in enumerate(infos)
            if not info.filename.endswith("/")
        )

    def find(self, name: str) -> ArchiveMember | None:
        """Return the last member of a name, as unzip tools do; None if there is none."""
        return next((member for member in reversed(self.members) if member.name == name), None)

    def attributes(self, member: ArchiveMember) -> zipfile.ZipInfo:
        """Return a member's name, date and compression, for a copy of it in another archive."""
        info = self._infos[member.position]
        attributes = zipfile.ZipInfo(member.name, info.date_time)
        attributes.compress_type, attributes.external_attr = info.compress_type, info.external_attr
        return attributes

    def _packed_size(self, info: zipfile.ZipInfo) -> int:
        return min(info.compress_size, max(self._length - info.header_offset, 0))

    def _open(self, info: zipfile.ZipInfo) -> IO[bytes]:
        header = self._read_at(info.header_offset, _LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise UnpackError("its directory is damaged")
        if info.flag_bits & _ENCRYPTED:
            raise UnpackError("encrypted")
        _, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        name = self._read_at(info.header_offset + len(header), name_size)
        if name.decode("utf-8" if info.flag_bits & _UTF8 else "cp437", "replace") != info.orig_filename:
            raise UnpackError("its directory has another name for a file")
        packed = _Slice(self._read_at, info.header_offset + len(header) + name_size + extra_size, info.compress_size)
        if info.compress_type == zipfile.ZIP_STORED:
            unpacked: io.RawIOBase = packed
        else:
            unpacked = UnpackedStream(packed.read_some, _decompressor_of(info, packed), parts=False)
        return io.BufferedReader(_Checked(unpacked, info.file_size, info.CRC), BLOCK)

    def _read_at(self, position: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(position)
            return self._file.read(size)


@contextmanager
def open_zip(path: Path, error: type[InputError] = DataError) -> Iterator[ZipReader]:
    """Open a zip archive.

    Args:
        path: the archive.
        error: class of the error for a file that cannot be read.

    Raises:
        InputError: the file cannot be read.
        UnpackError: it is not a zip archive, or a damaged one.
    """
    with open_regular(path, error) as file:
        yield ZipReader(file)


def _refuse_overlaps(infos: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse an archive in which many members share their bytes: a small one would unpack to any size.

    Raises:
        UnpackError: two members overlap.
    """
    places = sorted((info.header_offset, info.compress_size) for info in infos if info.compress_size)
    for (start, size), (following, _) in itertools.pairwise(places):
        if start + _LOCAL_HEADER.size + size > following:
            raise UnpackError("refused, its files share their bytes")


def _decompressor_of(info: zipfile.ZipInfo, packed: _Slice) -> Callable[[], Decompressor]:
    if info.compress_type == zipfile.ZIP_DEFLATED:
        return lambda: Inflater(-15)
    if info.compress_type == zipfile.ZIP_BZIP2:
        return BZ2Decompressor
    if info.compress_type == zipfile.ZIP_LZMA:
        header = packed.read_some(_LZMA_HEADER.size)
        size = _LZMA_HEADER.unpack(header)[0] if len(header) == _LZMA_HEADER.size else 0
        properties = packed.read_some(size)
        if size != 5 or len(properties) != size:
            raise UnpackError("an LZMA header that is damaged or asks for too much memory")
        return lambda: lzma_of_zip(properties)
    raise UnpackError(f"compressed by an unknown method ({info.compress_type})")


class _LimitedReader(io.RawIOBase):
    """A file for `zipfile` to read the directory from: it refuses to read too much at once."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file = file

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if size > ARCHIVE_DIRECTORY_BYTES:
            raise UnpackError(f"refused, its directory is larger than {megabytes(ARCHIVE_DIRECTORY_BYTES)}")
        data = self._file.read(ARCHIVE_DIRECTORY_BYTES + 1 if size < 0 else size)
        if len(data) > ARCHIVE_DIRECTORY_BYTES:
            raise UnpackError(f"refused, its directory is larger than {megabytes(ARCHIVE_DIRECTORY_BYTES)}")
        return data


class _Slice(io.RawIOBase):
    """A part of a file."""

    def __init__(self, read_at: Callable[[int, int], bytes], start: int, size: int) -> None:
        super().__init__()
        self._read_at, self._position, self._left = read_at, start, size

    def readable(self) -> bool:
        return True

    def read_some(self, size: int) -> bytes:
        data = self._read_at(self._position, min(size, self._left))
        self._position += len(data)
        self._left -= len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read_some(min(len(buffer), STEP))
        buffer[: len(data)] = data
        return len(data)


class _Checked(io.RawIOBase):
    """Unpacked bytes, with the size and checksum that they must have."""

    def __init__(self, file: io.RawIOBase, size: int, checksum: int) -> None:
        super().__init__()
        self._file, self._left, self._expected, self._checksum = file, size, checksum, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        count = self._file.readinto(view) or 0
        self._left -= count
        self._checksum = zlib.crc32(view[:count], self._checksum)
        if self._left < 0:
            raise UnpackError("it unpacks to more than its directory says")
        if not count and len(buffer) and (self._left or self._checksum != self._expected):
            raise UnpackError("it is not what its directory says")
        return count
