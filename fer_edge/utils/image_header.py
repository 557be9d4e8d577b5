"""Checking the header of an image before a decoder sees it.

Decoders allocate what a header asks for, so a file of some bytes could take gigabytes.  Only formats whose headers are
understood here reach a decoder.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import DataError
from fer_edge.utils.limits import (
    COLOUR_PIXELS,
    GRAY_PIXELS,
    HEIF_PIXELS,
    JPEG2000_PIXELS,
    JPEG_PIXELS,
    PROGRESSIVE_JPEG_PIXELS,
    SCANNED_JPEG_PIXELS,
    STORED_PIXEL_BYTES,
)
from fer_edge.utils.tiff_header import read_tiff_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JPEG2000: Final = "a JPEG 2000"
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG2000_STARTS: Final = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_PNM: Final = re.compile(rb"P[1-6](?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})(?:\s+(?:#[^\n]*\n\s*)*)(\d{1,9})\s")
_PNM_BYTES: Final = 1 << 16  # in which the size stands
_CONTAINER_BOXES: Final = {b"meta", b"iprp", b"ipco"}
_MAX_BOXES: Final = 10_000


class ImageSize(NamedTuple):
    """What the header of an image says.

    Attributes:
        kind: name of the format.
        columns: width as it is stored.
        rows: height as it is stored.
        pixel_bytes: bytes of a stored pixel.
        max_pixels: how many pixels an image of this kind may have.
    """

    kind: str
    columns: int
    rows: int
    pixel_bytes: int = 1
    max_pixels: int = GRAY_PIXELS

    @property
    def is_jpeg(self) -> bool:
        """Whether it is a JPEG, which can be shrunk while it is decoded."""
        return self.kind.endswith("JPEG")


def is_heif(data: bytes) -> bool:
    """Return whether an image is HEIC or AVIF."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def check_header(data: bytes, name: str, reduction: int = 1, *, colour: bool = False) -> ImageSize:
    """Check that an image can be decoded in bounded time and memory.

    Args:
        data: the encoded image.
        name: its name, for errors.
        reduction: factor by which a JPEG will be shrunk while it is decoded.
        colour: whether it will be decoded to colour.

    Raises:
        DataError: it is of an unknown format, its header is damaged, or it has too many pixels.
    """
    try:
        size = next((size for read in _READERS if (size := read(data))), None)
    except (IndexError, ValueError, struct.error) as error:
        raise DataError(f"{name}: not an image, or a damaged one") from error
    if size is None or size.columns < 1 or size.rows < 1:
        raise DataError(f"{name}: not an image, or a damaged one")
    max_decoded = COLOUR_PIXELS if colour else GRAY_PIXELS
    max_pixels = min(
        size.max_pixels,
        max_decoded * reduction**2 if size.is_jpeg else max_decoded,
        STORED_PIXEL_BYTES // size.pixel_bytes,
    )
    if size.columns * size.rows > max_pixels:
        raise DataError(
            f"{name}: refused, too many pixels: {size.columns}x{size.rows}, where {size.kind} like this may have"
            f" {max_pixels // 1_000_000} million; make it smaller"
        )
    return size


def _read_jpeg(data: bytes) -> ImageSize | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    position = 2
    while True:
        while data[position] != 0xFF:  # decoders skip what stands between segments
            position = data.index(b"\xff", position)
        while data[position] == 0xFF:
            position += 1
        marker = data[position]
        if marker in {0x00, 0x01} or 0xD0 <= marker <= 0xD8:  # without a length
            continue
        if marker in {0xD9, 0xDA}:  # the end, or pixels without a frame
            raise ValueError(marker)
        (length,) = struct.unpack_from(">H", data, position + 1)
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:  # start of frame
            rows, columns = struct.unpack_from(">HH", data, position + 4)
            if marker in {0xC0, 0xC1}:
                return ImageSize("a JPEG", columns, rows, max_pixels=JPEG_PIXELS)
            if data.count(b"\xff\xda") * rows * columns > SCANNED_JPEG_PIXELS:
                raise ValueError(marker)
            return ImageSize("a progressive JPEG", columns, rows, max_pixels=PROGRESSIVE_JPEG_PIXELS)
        position += 1 + length


def _read_png(data: bytes) -> ImageSize | None:
    if not data.startswith(_PNG):
        return None
    size = None
    position = len(_PNG)
    while position + 8 <= len(data):
        length, chunk = struct.unpack_from(">I4s", data, position)
        if chunk == b"IHDR":
            columns, rows, depth, colour = struct.unpack_from(">IIBB", data, position + 8)
            size = ImageSize("a PNG", columns, rows, max({2: 3, 4: 2, 6: 4}.get(colour, 1) * depth // 8, 1))
        if size is None or length > len(data) - position - 12:
            raise ValueError(chunk)
        if chunk == b"IEND":
            break
        position += 12 + length
    return size


def _read_webp(data: bytes) -> ImageSize | None:
    if not (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return ImageSize("a WebP", *(1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27)))
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageSize("a WebP", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    columns, rows = struct.unpack_from("<HH", data, 26)
    return ImageSize("a WebP", columns & 0x3FFF, rows & 0x3FFF)


def _read_bmp(data: bytes) -> ImageSize | None:
    if not data.startswith(b"BM"):
        return None
    (header,) = struct.unpack_from("<I", data, 14)
    columns, rows = struct.unpack_from("<HH" if header == 12 else "<ii", data, 18)
    return ImageSize("a BMP", abs(columns), abs(rows))


def _read_gif(data: bytes) -> ImageSize | None:
    return ImageSize("a GIF", *struct.unpack_from("<HH", data, 6)) if data.startswith(b"GIF8") else None


def _read_pnm(data: bytes) -> ImageSize | None:
    found = _PNM.match(data[:_PNM_BYTES])
    return ImageSize("a PNM", int(found[1]), int(found[2])) if found else None


def _read_tiff(data: bytes) -> ImageSize | None:
    if not data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return None
    return ImageSize("a TIFF", *read_tiff_size(data))


def _read_jpeg2000(data: bytes) -> ImageSize | None:
    if not data.startswith(_JPEG2000_STARTS):
        return None
    at = data.index(b"\xff\x4f\xff\x51")
    x, y, x0, y0, tile_x, tile_y = struct.unpack_from(">6I", data, at + 8)
    (components,) = struct.unpack_from(">H", data, at + 40)
    if not (x0 < x and y0 < y and 0 < components <= 4 and x // max(tile_x, 1) * (y // max(tile_y, 1)) < 1 << 16):
        raise ValueError(components)
    return ImageSize(JPEG2000, x - x0, y - y0, max_pixels=JPEG2000_PIXELS)


def _read_heif(data: bytes) -> ImageSize | None:
    if not is_heif(data):
        return None
    sizes = [struct.unpack_from(">II", data, at + 4) for kind, at, _ in _boxes(data) if kind == b"ispe"]
    columns, rows = max(sizes, key=lambda size: size[0] * size[1])
    return ImageSize("a HEIC or AVIF", columns, rows, max_pixels=HEIF_PIXELS)


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each box of a HEIF file, and of those in its containers."""
    waiting = [(0, len(data))]
    count = 0
    while waiting:
        position, end = waiting.pop()
        while position + 8 <= end:
            count += 1
            length, kind = struct.unpack_from(">I4s", data, position)
            start = position + 8
            if length == 1:
                (length,) = struct.unpack_from(">Q", data, start)
                start += 8
            stop = position + length if length else end
            if not start <= stop <= end or count > _MAX_BOXES:
                raise ValueError(kind)
            yield kind, start, stop
            if kind in _CONTAINER_BOXES:
                waiting.append((start + 4 * (kind == b"meta"), stop))
            position = stop


_READERS: Final[tuple[Callable[[bytes], ImageSize | None], ...]] = (
    *(_read_jpeg, _read_png, _read_webp, _read_tiff, _read_bmp),
    *(_read_gif, _read_heif, _read_pnm, _read_jpeg2000),
)
