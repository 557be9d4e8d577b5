"""Orientation and date of a photo, from its EXIF block (CIPA DC-008), which is a TIFF file inside the image file.

The four tags are read here, because images must be turned upright where Pillow is not installed, and because OpenCV's
releases differ in the formats whose orientation they know.
"""

from __future__ import annotations

import struct
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterator

    import numpy.typing as npt

PREFIX: Final = b"Exif\0\0"
_ORIENTATION, _DATE_TIME, _EXIF_DIRECTORY = 0x0112, 0x0132, 0x8769
_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED = 0x9003, 0x9004
_BYTE_ORDERS: Final = {b"II": "<", b"MM": ">"}
_TIFF, _BIG_TIFF = 42, 43
# By the number of the type: those that libtiff, which turns TIFF files, takes for an orientation.
_INTEGERS: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
_ASCII: Final = 2
_DATE_LENGTH: Final = 19
# Real files stay far below; damaged ones could claim any number.
_MAX_TAGS: Final = 4096
_MAX_CHUNKS: Final = 200_000


def read_orientation(data: bytes | mmap.mmap) -> int:
    """Return how an image file says that its pixels are turned, 1..8; 1 if it does not say.

    Args:
        data: a JPEG, PNG, WebP or TIFF file, or a HEIC or AVIF file. What is damaged counts as absent.
    """
    block = find_block(data)
    for directory in _directories(block):
        value = directory.get(_ORIENTATION)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    return 1


def read_date(data: bytes | mmap.mmap) -> datetime | None:
    """Return when a photo was taken, in the local time of the camera; None if the file does not tell.

    Args:
        data: see `read_orientation`.
    """
    tags: dict[int, int | bytes] = {}
    for directory in _directories(find_block(data)):
        tags.update(directory)
    for tag in (_DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED, _DATE_TIME):
        if (text := tags.get(tag)) and isinstance(text, bytes) and (date := _parse_date(text)):
            return date
    return None


def turn_upright(image: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """Turn an image as its orientation says.

    Args:
        image: uint8 of shape (rows, columns) or (rows, columns, 3).
        orientation: EXIF orientation, 1..8.

    Returns:
        The upright image, contiguous.
    """
    if orientation == 1:
        return image
    if orientation >= 5:  # the rows of the stored image are the columns of the upright one
        image = image.swapaxes(0, 1)
    if orientation in {2, 3, 6, 7}:
        image = image[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        image = image[::-1]
    return np.ascontiguousarray(image)


def find_block(data: bytes | mmap.mmap) -> bytes | mmap.mmap:
    """Return the EXIF block of an image file, without its prefix; empty if it has none. A TIFF is its own block."""
    if data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        return data
    if data[:2] == b"\xff\xd8":
        segments = _jpeg_segments(data)
        return next((s.removeprefix(PREFIX) for marker, s in segments if marker == 0xE1 and s[:6] == PREFIX), b"")
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return next((data[start:end] for name, start, end in _chunks(data, 8, ">I4s", 4) if name == b"eXIf"), b"")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        blocks = (data[start:end] for name, start, end in _chunks(data, 12, "<4sI", 0) if name == b"EXIF")
        return next(blocks, b"").removeprefix(PREFIX)
    if data[4:8] == b"ftyp":
        # The list of items tells where the block is; its beginning is unmistakable.
        for start in (data.find(PREFIX + order) for order in (b"II*\0", b"MM\0*")):
            if start >= 0:
                return data[start + len(PREFIX) : start + len(PREFIX) + (1 << 16)]
    return b""


def _jpeg_segments(data: bytes | mmap.mmap) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of the segments before the pixels."""
    position = 2
    for _ in range(_MAX_CHUNKS):
        header = data[position : position + 4]
        if len(header) < 4 or header[0] != 0xFF:
            return
        marker, size = header[1], int.from_bytes(header[2:])
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker in {0xD9, 0xDA} or size < 2:
            return
        yield marker, data[position + 4 : position + 2 + size]
        position += 2 + size


def _chunks(data: bytes | mmap.mmap, position: int, header: str, trailer: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the chunks of a PNG or RIFF file.

    Args:
        data: the file.
        position: where the first chunk begins.
        header: name and length of a chunk, in the order and format of the file.
        trailer: bytes after the content of a chunk.
    """
    for _ in range(_MAX_CHUNKS):
        fields = data[position : position + 8]
        if len(fields) < 8:
            return
        first, second = struct.unpack(header, fields)
        name, size = (first, second) if isinstance(first, bytes) else (second, first)
        start = position + 8
        yield name, start, start + size
        position = start + size + trailer + (size % 2 if not trailer else 0)  # RIFF pads to an even length


def _directories(block: bytes | mmap.mmap) -> Iterator[dict[int, int | bytes]]:
    """Yield the tags of the main directory of an EXIF block, then those of its EXIF directory."""
    order = _BYTE_ORDERS.get(bytes(block[:2]))
    if order is None:
        return
    try:
        (version,) = struct.unpack(f"{order}H", block[2:4])
        is_big = version == _BIG_TIFF
        if not is_big and version != _TIFF:
            return
        (offset,) = struct.unpack(f"{order}Q", block[8:16]) if is_big else struct.unpack(f"{order}I", block[4:8])
        main = _read_directory(block, offset, order, is_big=is_big)
        yield main
        offset = main.get(_EXIF_DIRECTORY)
        if isinstance(offset, int):
            yield _read_directory(block, offset, order, is_big=is_big)
    except struct.error:  # it was cut short
        return


def _read_directory(block: bytes | mmap.mmap, offset: int, order: str, *, is_big: bool) -> dict[int, int | bytes]:
    """Read the wanted tags of a directory: numbers, and the texts of dates."""
    count_format, entry_format, size = ("Q", "HHQ8s", 20) if is_big else ("H", "HHI4s", 12)
    start = offset + struct.calcsize(f"{order}{count_format}")
    (count,) = struct.unpack(f"{order}{count_format}", block[offset:start])
    tags: dict[int, int | bytes] = {}
    for number in range(min(count, _MAX_TAGS)):
        entry = block[start + number * size : start + (number + 1) * size]
        if len(entry) < size:
            break
        tag, kind, length, value = struct.unpack(f"{order}{entry_format}", entry)
        if tag in tags:  # the first counts
            continue
        if tag in {_ORIENTATION, _EXIF_DIRECTORY} and length == 1 and (code := _INTEGERS.get(kind)):
            (tags[tag],) = struct.unpack_from(f"{order}{code}", value)
        elif tag in {_DATE_TIME, _DATE_TIME_ORIGINAL, _DATE_TIME_DIGITIZED} and kind == _ASCII and length > len(value):
            at = int.from_bytes(value, "little" if order == "<" else "big")
            tags[tag] = bytes(block[at : at + _DATE_LENGTH])
    return tags


def _parse_date(text: bytes) -> datetime | None:
    try:
        return datetime.strptime(text.decode("ascii"), "%Y:%m:%d %H:%M:%S")  # noqa: DTZ007 - cameras write local time
    except ValueError:  # also of zeros or blanks, by which cameras say that they do not know
        return None
