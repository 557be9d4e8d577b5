"""The sizes of a TIFF (TIFF 6.0 and BigTIFF), from its first directory."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

_FORMATS: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of the types of the tags that are read
_TYPE_BYTES: Final = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
_WIDTH, _LENGTH, _BITS, _SAMPLES, _STRIP_ROWS, _TILE_WIDTH, _TILE_LENGTH = 256, 257, 258, 277, 278, 322, 323
_MAX_ENTRIES: Final = 4096


class TiffSize(NamedTuple):
    """Sizes of the first image in a TIFF.

    Attributes:
        columns: width of the image, or of its tiles if they are wider.
        rows: height of the image, or of its tiles if they are higher.
        pixel_bytes: bytes of a pixel.
        strip_pixels: pixels of the strips or tiles of which it consists, which are decoded as a whole.
    """

    columns: int
    rows: int
    pixel_bytes: int
    strip_pixels: int


def read_tiff_size(data: bytes) -> TiffSize:
    """Return the sizes of the first image in a TIFF.

    Args:
        data: the file, which starts with the mark of a TIFF.

    Raises:
        ValueError: the directory points outside the file.
        struct.error: the directory is cut short.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = data[2:4] in {b"+\0", b"\0+"}
    offset_format, count_format, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    (directory,) = struct.unpack_from(order + offset_format, data, 8 if big else 4)
    if directory >= len(data):
        raise ValueError(directory)
    (count,) = struct.unpack_from(order + count_format, data, directory)
    start = directory + struct.calcsize(f"={count_format}")
    if count > _MAX_ENTRIES or start + count * entry_bytes > len(data):
        raise ValueError(count)
    tags: dict[int, int] = {}
    for entry in range(start, start + count * entry_bytes, entry_bytes):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        (values,) = struct.unpack_from(order + offset_format, data, entry + 4)
        value_at = entry + 4 + struct.calcsize(f"={offset_format}")
        size = values * _TYPE_BYTES.get(kind, 1)
        if size > (8 if big else 4):
            (value_at,) = struct.unpack_from(order + offset_format, data, value_at)
            if value_at + size > len(data):
                raise ValueError(tag)
        if kind in _FORMATS and values:
            (value,) = struct.unpack_from(order + _FORMATS[kind], data, value_at)
            tags[tag] = max(value, tags.get(tag, 0))  # decoders disagree about tags that occur twice
    tile_columns, tile_rows = tags.get(_TILE_WIDTH, 0), tags.get(_TILE_LENGTH, 0)
    columns, rows = max(tags.get(_WIDTH, 0), tile_columns), max(tags.get(_LENGTH, 0), tile_rows)
    strip_pixels = tile_columns * tile_rows or columns * min(tags.get(_STRIP_ROWS) or rows, rows)
    return TiffSize(columns, rows, max(tags.get(_SAMPLES, 1) * -(-tags.get(_BITS, 1) // 8), 1), strip_pixels)
