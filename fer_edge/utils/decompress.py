"""Decompressing streams block by block: whatever a header says, a decompressor gives no more than it is asked for."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.utils.limits import ARCHIVE_RATIO, ARCHIVE_RATIO_FREE_BYTES, DECODER_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK: Final = 1 << 16
STEP: Final = 1 << 20  # bytes that come out at a time at most, because they are copied
MAGIC_BYTES: Final = 6  # at the start of a stream, which tell how it is compressed


class UnpackError(Exception):
    """Raised when packed data are damaged, or would unpack to too much; the message is only the reason."""


class Decompressor(Protocol):
    """What `bz2.BZ2Decompressor` and `lzma.LZMADecompressor` have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of the packed data was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether more packed data are needed before anything comes out."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What follows the packed data."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take packed data, and return at most ``max_length`` unpacked bytes."""
        ...


class Inflater:
    """A `Decompressor` of deflated data."""

    def __init__(self, window_bits: int) -> None:
        """Start; see `zlib.decompressobj` for the bits."""
        self._inflate = zlib.decompressobj(window_bits)
        self._was_full = False

    @property
    def eof(self) -> bool:
        """Whether the end of the packed data was reached."""
        return self._inflate.eof

    @property
    def needs_input(self) -> bool:
        """Whether more packed data are needed before anything comes out."""
        return not self._inflate.unconsumed_tail and not self._was_full

    @property
    def unused_data(self) -> bytes:
        """What follows the packed data."""
        return self._inflate.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take packed data, and return at most ``max_length`` unpacked bytes."""
        out = self._inflate.decompress(self._inflate.unconsumed_tail + data, max_length)
        self._was_full = len(out) == max_length  # more may wait inside
        return out


def lzma_of_zip(properties: bytes) -> Decompressor:
    """Return a decompressor of LZMA data in a zip.

    Args:
        properties: the five bytes before the data.

    Raises:
        UnpackError: the properties are damaged, or ask for too much memory.
    """
    code, dictionary = properties[0], int.from_bytes(properties[1:5], "little")
    if code >= 9 * 5 * 5 or dictionary > DECODER_BYTES:
        raise UnpackError("an LZMA header that is damaged or asks for too much memory")
    rest, lc = divmod(code, 9)
    pb, lp = divmod(rest, 5)
    options = {"id": lzma.FILTER_LZMA1, "dict_size": dictionary, "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[options])


def unpacker_for(start: bytes) -> Callable[[], Decompressor] | None:
    """Return what makes a decompressor of a stream.

    Args:
        start: the first `MAGIC_BYTES` bytes of the stream.

    Returns:
        None if the stream is not compressed.
    """
    if start.startswith(b"\x1f\x8b"):
        return lambda: Inflater(31)
    if start.startswith(b"BZh"):
        return bz2.BZ2Decompressor
    if start.startswith((b"\xfd7zXZ\0", b"]\0\0")):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=DECODER_BYTES)
    return None


class UnpackedStream(io.RawIOBase):
    """The unpacked bytes of a stream, which may consist of several packed parts."""

    def __init__(self, read: Callable[[int], bytes], make: Callable[[], Decompressor], *, parts: bool = True) -> None:
        """Start at the beginning.

        Args:
            read: returns at most so many packed bytes; none at the end.
            make: makes a decompressor.
            parts: whether another packed part may follow the end of one, as in a gzip file.
        """
        super().__init__()
        self._read, self._make, self._parts = read, make, parts
        self._decompressor = make()
        self._rest = b""
        self._packed = self._unpacked = 0

    def readable(self) -> bool:
        """Return True: the stream can be read."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Unpack some bytes.

        Raises:
            UnpackError: the data are damaged or cut short, or unpack to too many bytes for their size.
        """
        if not len(buffer):
            return 0
        try:
            block = self._next_block(min(len(buffer), STEP))
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
            raise UnpackError(str(error) or type(error).__name__) from error
        self._unpacked += len(block)
        if self._unpacked > ARCHIVE_RATIO_FREE_BYTES + ARCHIVE_RATIO * self._packed:
            raise UnpackError(f"it unpacks to more than {ARCHIVE_RATIO} times its size")
        buffer[: len(block)] = block
        return len(block)

    def _next_block(self, size: int) -> bytes:
        while True:
            if self._decompressor.eof and not self._start_next_part():
                return b""
            data, self._rest = self._rest, b""
            if not data and self._decompressor.needs_input:
                data = self._fill()
                if not data:
                    raise EOFError("it ends too early")
            if block := self._decompressor.decompress(data, size):
                return block

    def _start_next_part(self) -> bool:
        if not self._parts:
            return False
        rest = self._decompressor.unused_data.lstrip(b"\0")
        while len(rest) < MAGIC_BYTES and (data := self._fill()):
            rest = (rest + data).lstrip(b"\0")
        if unpacker_for(rest) is None:  # what follows the last part, such as padding, is ignored
            return False
        self._rest, self._decompressor = rest, self._make()
        return True

    def _fill(self) -> bytes:
        data = self._read(BLOCK)
        self._packed += len(data)
        return data
