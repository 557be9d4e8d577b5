"""Checking the header of an image before a decoder sees it.

Decoders allocate what a header asks for, so a file of a few bytes could take gigabytes. Only formats whose headers are
understood here reach a decoder.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import DataError
from fer_edge.utils.limits import (
    COLOUR_PIXELS,
    DECODING_BYTES,
    GRAY_PIXELS,
    HEIF_PIXELS,
    JPEG2000_PIXELS,
    JPEG_PIXELS,
    JPEG_SEGMENTS,
    PNG_CHUNKS,
    PNG_PACKED_TEXTS,
    SCANNED_JPEG_PIXELS,
    STORED_PIXEL_BYTES,
)
from fer_edge.utils.tiff_header import read_tiff_size
from fer_edge.utils.words import megabytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JPEG2000: Final = "a JPEG 2000"
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_PNG_ANIMATION: Final = (b"acTL", b"fcTL", b"fdAT")
_JPEG2000_STARTS: Final = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_NO_PADDING: Final = re.compile(rb"[^\xff]")
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
        buffer_bytes: what the decoder holds beside the decoded image, if that depends on the file.
    """

    kind: str
    columns: int
    rows: int
    pixel_bytes: int = 1
    max_pixels: int = GRAY_PIXELS
    buffer_bytes: int = 0

    @property
    def is_jpeg(self) -> bool:
        """Whether it is a JPEG, which can be shrunk while it is decoded."""
        return self.kind.endswith("JPEG")

    @property
    def remedy(self) -> str:
        """What to do with an image whose decoder would hold too much."""
        return "save it as a baseline JPEG" if self.is_jpeg else "save it in strips of fewer rows"


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
    # A colour image is decoded while the grey one is in memory.
    decoding_bytes = len(data) + size.buffer_bytes + size.columns * size.rows * (4 if colour else 1) // reduction**2
    if decoding_bytes > DECODING_BYTES:
        raise DataError(
            f"{name}: refused, decoding {size.kind} like this takes {megabytes(decoding_bytes)} of memory, where"
            f" {megabytes(DECODING_BYTES)} are allowed; make it smaller, or {size.remedy}"
        )
    return size


def _read_jpeg(data: bytes) -> ImageSize | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    segments = _jpeg_segments(data)
    marker, frame = next(
        (marker, start) for marker, start in segments if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}
    )
    rows, columns, components = struct.unpack_from(">HHB", data, frame + 1)
    scan = next(start for marker, start in segments if marker == 0xDA)
    # A decoder needs no more than a row of blocks at a time if its first scan is of all components.
    if marker in {0xC0, 0xC1} and data[scan] == components:
        return ImageSize("a JPEG", columns, rows, max_pixels=JPEG_PIXELS)
    if data.count(b"\xff\xda") * rows * columns > SCANNED_JPEG_PIXELS:
        raise ValueError(scan)
    sampling = [divmod(factors, 16) for factors in data[frame + 7 : frame + 6 + 3 * components : 3]]
    if not all(1 <= factor <= 4 for factors in sampling for factor in factors):
        raise ValueError(sampling)
    wide, high = (max(factors) for factors in zip(*sampling, strict=True))
    blocks = sum(-(-columns * w // (8 * wide)) * -(-rows * h // (8 * high)) for w, h in sampling)
    return ImageSize("a progressive JPEG", columns, rows, max_pixels=JPEG_PIXELS, buffer_bytes=128 * blocks)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker of each segment before the end of a JPEG, and where its content starts.

    Raises:
        IndexError, ValueError, struct.error: the file ends before that, or has too many segments.
    """
    position = 2
    for _ in range(JPEG_SEGMENTS):
        position = data.index(b"\xff", position)  # decoders skip what stands between segments
        found = _NO_PADDING.search(data, position)
        if found is None or found[0] == b"\xd9":
            break
        marker, position = found[0][0], found.end()
        if marker not in {0x00, 0x01} and not 0xD0 <= marker <= 0xD8:  # those have no length
            (length,) = struct.unpack_from(">H", data, position)
            yield marker, position + 2
            position += length
    raise ValueError(position)


def _read_png(data: bytes) -> ImageSize | None:
    if not data.startswith(_PNG):
        return None
    columns, rows, depth, colour = struct.unpack_from(">IIBB", data, 16)
    kinds = [kind for kind, _, _ in _png_chunks(data)]
    if kinds[:1] != [b"IHDR"] or b"IHDR" in kinds[1:]:
        raise ValueError(kinds[:1])
    if kinds.count(b"zTXt") + kinds.count(b"iTXt") > PNG_PACKED_TEXTS:
        raise ValueError(len(kinds))
    return ImageSize("a PNG", columns, rows, max({2: 3, 4: 2, 6: 4}.get(colour, 1) * depth // 8, 1))


def without_animation(data: bytes) -> bytes:
    """Return an image file without the later frames of an animated PNG.

    OpenCV would allocate what their headers ask for, and crashes on some.
    """
    if not data.startswith(_PNG) or not any(kind in data for kind in _PNG_ANIMATION):
        return data
    kept = [data[start:end] for kind, start, end in _png_chunks(data) if kind not in _PNG_ANIMATION]
    return b"".join((_PNG, *kept))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk of a PNG.

    Raises:
        ValueError: a chunk is longer than the file, or there are too many.
    """
    position = len(_PNG)
    for _ in range(PNG_CHUNKS):
        if position == len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError(kind)
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise ValueError(position)


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
    size = read_tiff_size(data)
    # The decoder unpacks a strip, and makes pixels of four bytes of it.
    buffer_bytes = size.strip_pixels * (size.pixel_bytes + 4)
    return ImageSize("a TIFF", size.columns, size.rows, size.pixel_bytes, buffer_bytes=buffer_bytes)


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
