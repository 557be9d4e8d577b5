from __future__ import annotations

import contextlib
import io
import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from PIL import Image

from fer_edge.errors import DataError
from fer_edge.utils import address_space
from fer_edge.utils.image_header import check_header, without_animation
from fer_edge.utils.image_io import decode, decode_gray

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A file type box, and a box of metadata that says 65535x65535 pixels.
HEIC = bytes.fromhex(
    "00000018 66747970 68656963 00000000 6d696631 68656963"
    "00000030 6d657461 00000000 00000024 69707270 0000001c 6970636f 00000014 69737065 00000000 0000ffff 0000ffff"
)
IMAGE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def encoded(suffix: str, parameters: Sequence[int] = ()) -> bytes:
    return bytes(cv2.imencode(suffix, IMAGE, list(parameters))[1].tobytes())


def png(columns: int, rows: int, *chunks: tuple[bytes, bytes]) -> bytes:
    parts = [(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 0, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        (".png", "a PNG"),
        (".jpg", "a JPEG"),
        (".bmp", "a BMP"),
        (".tiff", "a TIFF"),
        (".webp", "a WebP"),
        (".ppm", "a PNM"),
    ],
)
def test_reads_the_size_of_every_format(suffix: str, kind: str) -> None:
    data = encoded(suffix)
    size = check_header(data, "x")
    assert (size.kind, size.columns, size.rows) == (kind, 40, 30)
    for end in range(0, len(data), max(len(data) // 50, 1)):  # whatever is cut off, it is our error or none
        try:
            check_header(data[:end], "x")
        except DataError as error:
            assert str(error).startswith("x: ")  # noqa: PT017 - most ends are errors


def test_knows_jpegs_whose_coefficients_are_all_in_memory() -> None:
    assert check_header(encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), "x").kind == "a progressive JPEG"


def resized(data: bytes, form: str, at: int, columns: int, rows: int) -> bytes:
    return data[:at] + struct.pack(form, columns, rows) + data[at + struct.calcsize(form) :]


@pytest.mark.parametrize(
    "data",
    [
        png(60_000, 60_000),
        resized(encoded(".bmp"), "<ii", 18, 40_000, -40_000),
        encoded(".ppm").replace(b"40 30", b"90000 90000"),
        b"GIF89a" + struct.pack("<HH", 65535, 65535),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff",
        HEIC,
    ],
)
def test_refuses_too_many_pixels(data: bytes) -> None:
    with pytest.raises(DataError, match=r"x: refused, too many pixels: .* may have [0-9]+ million"):
        check_header(data, "x")


def test_a_jpeg_may_be_large_if_it_is_shrunk() -> None:
    data = encoded(".jpg")
    at = data.index(b"\xff\xc0") + 5
    large = resized(data, ">HH", at, 20_000, 20_000)
    assert check_header(large, "x", 8).columns == 20_000
    with pytest.raises(DataError, match="too many pixels"):
        check_header(large, "x")
    with pytest.raises(DataError, match="may have 67 million"):
        check_header(resized(data, ">HH", at, 10_000, 10_000), "x", colour=True)


def jpeg_of_separate_colours(side: int) -> bytes:
    """Return a baseline JPEG in which each colour has a scan of its own, so that a decoder keeps all coefficients."""
    frame = struct.pack(">BHHB", 8, side, side, 3) + bytes((1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0))
    segments = [
        (0xDB, bytes((0, *[16] * 64))),
        (0xC0, frame),
        *((0xC4, bytes((table, 1, *[0] * 15, 0))) for table in (0x00, 0x10)),
        *((0xDA, bytes((1, component, 0, 0, 63, 0))) for component in (1, 2, 3)),
    ]
    parts = [
        b"\xff" + bytes((marker,)) + struct.pack(">H", len(content) + 2) + content + bytes(200 * (marker == 0xDA))
        for marker, content in segments
    ]
    return b"".join((b"\xff\xd8", *parts, b"\xff\xd9"))


def test_counts_the_coefficients_of_a_jpeg_that_is_not_interleaved() -> None:
    data = jpeg_of_separate_colours(160)
    size = check_header(data, "x")
    assert (size.kind, size.buffer_bytes) == ("a progressive JPEG", 3 * 160 * 160)  # 4:2:0, two bytes each
    assert decode_gray(data, "x").shape == (160, 160)
    with pytest.raises(DataError, match=r"x: refused, decoding .* takes 549 MB of memory, where 537 MB are allowed"):
        check_header(jpeg_of_separate_colours(13_000), "x", 2)
    assert check_header(jpeg_of_separate_colours(8000), "x").columns == 8000


def test_a_marker_of_a_scan_in_a_comment_is_no_scan() -> None:
    data = encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    at = data.index(b"\xff\xc4")
    comment = b"\xff\xfe\0\x0a\xff\xda\0\x0c\x03\0\0\0"
    assert check_header(data[:at] + comment + data[at:], "x").kind == "a progressive JPEG"


@pytest.mark.parametrize("factors", [0x00, 0x51, 0x15])
def test_refuses_impossible_sampling_of_a_jpeg(factors: int) -> None:
    data = bytearray(encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]))
    data[data.index(b"\xff\xc2") + 11] = factors
    with pytest.raises(DataError, match="not an image, or a damaged one"):
        check_header(bytes(data), "x")


def test_refuses_a_jpeg_of_millions_of_segments() -> None:
    """Each takes a moment in Python, and a file has room for 60 million."""
    data = encoded(".jpg")
    with pytest.raises(DataError, match="not an image, or a damaged one"):
        check_header(data[:2] + b"\xff\xfe\0\2" * 1_000_000 + data[2:], "x")
    assert check_header(data[:2] + b"\xff" * 1_000_000 + data[2:], "x").columns == 40


def test_refuses_a_progressive_jpeg_of_thousands_of_scans() -> None:
    data = encoded(".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    scans = resized(data, ">HH", data.index(b"\xff\xc2") + 5, 8000, 8000) + b"\xff\xda" * 1000
    with pytest.raises(DataError, match="not an image, or a damaged one"):
        check_header(scans, "x")


@pytest.mark.parametrize("length", [0xFFFFFFF0, 0x7FFFFFFF, 100])
def test_refuses_chunks_longer_than_the_file(length: int) -> None:
    """OpenCV allocates what a chunk's length says."""
    data = png(8, 8)
    for rest in (b"", b"\xbd", b"IDAT", b"IDAT12345678"):
        with pytest.raises(DataError, match="not an image, or a damaged one"):
            check_header(data[:33] + struct.pack(">I", length) + rest, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\xff\xd8",
        b"\xff\xd8" + b"\xff" * 100,
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"II+\0\x08\0\0\0" + b"\xff" * 40,
        b"\x59\xa6\x6a\x95" + bytes(40),  # Sun raster, which no one checks
        b"#?RADIANCE\n-Y 99999 +X 99999\n",
    ],
)
def test_gives_decoders_nothing_that_it_does_not_know(data: bytes) -> None:
    with pytest.raises(DataError, match="x: not an image, or a damaged one"):
        decode_gray(data, "x")


def test_refuses_tiles_larger_than_the_image() -> None:
    tags = [(256, 4, 1, 40), (257, 4, 1, 30), (322, 4, 1, 1 << 20), (323, 4, 1, 1 << 20)]
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    with pytest.raises(DataError, match="too many pixels"):
        check_header(data, "x")


def test_counts_a_strip_that_is_decoded_as_a_whole() -> None:
    tags = [(256, 4, 1, 10_000), (257, 4, 1, 10_000), (258, 3, 1, 8), (277, 3, 1, 3)]

    def tiff(*more: tuple[int, int, int, int]) -> bytes:
        entries = b"".join(struct.pack("<HHII", *tag) for tag in (*tags, *more))
        return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags) + len(more)) + entries

    for one_strip in (tiff(), tiff((278, 4, 1, 10_000)), tiff((278, 4, 1, 1 << 31)), tiff((278, 3, 1, 0))):
        with pytest.raises(DataError, match=r"takes 800 MB of memory, .* or save it in strips of fewer rows"):
            check_header(one_strip, "x")
    assert check_header(tiff((278, 4, 1, 16)), "x").buffer_bytes == 10_000 * 16 * 7
    assert check_header(tiff((322, 4, 1, 256), (323, 4, 1, 256)), "x").buffer_bytes == 256 * 256 * 7
    twice = tiff((278, 4, 1, 10_000), (278, 4, 1, 1))
    with pytest.raises(DataError, match="takes 800 MB"):
        check_header(twice, "x")


def test_decodes_the_first_image_of_an_animated_png() -> None:
    """OpenCV crashes on frames that are larger than the image, and reads all frames to return the first."""
    data = png(8, 8, (b"IDAT", zlib.compress(bytes(8 * 9))))
    control = struct.pack(">IIIIIHHBB", 0, 0x7FFFFFFF, 0x7FFFFFFF, 0, 0, 1, 10, 0, 0)
    animated = png(
        8,
        8,
        (b"acTL", struct.pack(">II", 0xFFFFFFFF, 0)),
        (b"fcTL", control),
        (b"IDAT", zlib.compress(bytes(8 * 9))),
        (b"fdAT", bytes(4)),
    )
    assert without_animation(animated) == without_animation(data) == data
    assert np.array_equal(decode_gray(animated, "x"), np.zeros((8, 8), np.uint8))


def test_refuses_a_png_whose_texts_take_long_to_unpack() -> None:
    text = (b"zTXt", b"a\0\0" + zlib.compress(bytes(1000)))
    image = (b"IDAT", zlib.compress(bytes(8 * 9)))
    assert check_header(png(8, 8, *(text,) * 200, image), "x").columns == 8
    with pytest.raises(DataError, match="not an image, or a damaged one"):
        check_header(png(8, 8, *(text,) * 201, image), "x")


@pytest.mark.parametrize(
    "chunks", [((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)),), ((b"tEXt", b"a\0b"),) * 200_001]
)
def test_refuses_a_png_of_two_headers_or_too_many_chunks(chunks: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(DataError, match="not an image, or a damaged one"):
        check_header(png(8, 8, *chunks), "x")


def test_decodes_jpeg_2000_in_a_process_of_its_own(tmp_path: Path) -> None:
    """A damaged one makes OpenJPEG crash where memory is short."""
    cv2.imwrite(str(tmp_path / "a.jp2"), cv2.resize(IMAGE, (160, 120)))
    data = (tmp_path / "a.jp2").read_bytes()
    assert check_header(data, "x") == ("a JPEG 2000", 160, 120, 1, 25_000_000, 0)
    assert np.array_equal(decode(data, "x", colour=True).pixels, cv2.imread(str(tmp_path / "a.jp2")))
    assert decode_gray(data, "x").shape == (120, 160)
    for at in range(60, len(data), len(data) // 4):
        with contextlib.suppress(DataError):
            decode_gray(data[:at] + b"\xff" * 40 + data[at + 40 :], "x")


def test_says_what_jpeg_2000_needs_where_memory_cannot_be_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.imwrite(str(tmp_path / "a.jp2"), cv2.resize(IMAGE, (160, 120)))
    monkeypatch.setattr(address_space, "_STATE", tmp_path / "no proc")
    with pytest.raises(DataError, match=r"x: .* need /proc: sudo mount"):
        decode_gray((tmp_path / "a.jp2").read_bytes(), "x")


@pytest.mark.parametrize("kind", ["GIF", "AVIF"])
def test_converts_tall_images_in_parts_without_seams(kind: str) -> None:
    file = io.BytesIO()
    pixels = cv2.resize(IMAGE, (50, 600))
    Image.fromarray(pixels).save(file, kind)
    with Image.open(file) as image:
        expected = np.asarray(image.convert("RGB"))
        gray = np.asarray(image.convert("L"))
    assert np.array_equal(decode(file.getvalue(), "x", colour=True).pixels, expected[..., ::-1])
    assert np.array_equal(decode(file.getvalue(), "x").pixels, gray)
