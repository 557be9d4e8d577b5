"""Test that images are turned upright in every format, and that their dates are found."""

from __future__ import annotations

import io
import random
import struct
import tracemalloc
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from fer_edge.errors import DataError
from fer_edge.utils import exif, image_io

# Four corners of different grey, so that every way of turning gives another image.
UPRIGHT = np.zeros((40, 64), np.uint8)
UPRIGHT[:20, :32], UPRIGHT[:20, 32:], UPRIGHT[20:, :32] = 250, 170, 90
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
DATE = datetime(2012, 4, 7, 10, 20, 30)  # noqa: DTZ001 - local, as cameras write it


def encode(suffix: str, orientation: int, mode: str = "RGB") -> bytes:
    """Return an image file whose pixels are turned, and whose EXIF block says how."""
    image = (
        Image.fromarray(UPRIGHT.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(UPRIGHT).convert(mode)
    )
    if orientation in UNDO:
        image = image.transpose(UNDO[orientation])
    tags = Image.Exif()
    tags[0x0112] = orientation
    out = io.BytesIO()
    if suffix == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    options: dict[str, object] = {"tiffinfo": {0x0112: orientation}} if suffix == "TIFF" else {"exif": tags}
    image.save(out, suffix, **(options | ({"lossless": True} if suffix == "WEBP" else {"quality": 95})))
    return out.getvalue()


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_every_format_upright(suffix: str, orientation: int) -> None:
    data = encode(suffix, orientation)
    decoded = image_io.decode(data, "image")
    assert decoded.orientation == orientation
    assert decoded.pixels.shape == UPRIGHT.shape
    assert np.abs(decoded.pixels.astype(int) - UPRIGHT).max() < 60
    assert np.abs(decoded.pixels.astype(int) - UPRIGHT).mean() < 4
    colour = image_io.decode(data, "image", colour=True).pixels
    assert colour.shape == (*UPRIGHT.shape, 3)
    assert np.abs(colour[..., 0].astype(int) - UPRIGHT).mean() < 4


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "1", "P", "I;16"])
def test_turns_every_kind_of_tiff_once(mode: str) -> None:
    decoded = image_io.decode(encode("TIFF", 6, mode), "image")
    assert decoded.orientation == 6
    assert decoded.pixels.shape == UPRIGHT.shape
    corners = decoded.pixels[[5, 5, 35, 35], [5, 60, 5, 60]].astype(int)
    if mode != "1":
        assert (np.diff(corners) < 0).all()


def test_turns_a_jpeg_that_is_decoded_at_reduced_size() -> None:
    decoded = image_io.decode(encode("JPEG", 8), "image", reduced=4)
    assert np.abs(decoded.pixels.astype(int) - UPRIGHT[2::4, 2::4]).mean() < 6


def with_block(data: bytes, block: bytes) -> bytes:
    """Return a JPEG with an EXIF block."""
    segment = exif.PREFIX + block
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]


def make_block(order: str = "<", tag: int = 0x0112, kind: int = 3, value: bytes = b"\6\0\0\0") -> bytes:
    magic = b"II" if order == "<" else b"MM"
    return magic + struct.pack(f"{order}HIHHHI", 42, 8, 1, tag, kind, 1) + value + bytes(4)


@pytest.mark.parametrize(
    ("block", "orientation"),
    [
        (make_block(), 6),
        (make_block(">", value=b"\0\6\0\0"), 6),
        (make_block(kind=4), 6),
        (make_block(value=b"\x09\0\0\0"), 1),
        (make_block(value=b"\0\0\0\0"), 1),
        (make_block(kind=2), 1),
        (make_block(kind=5), 1),
        (make_block()[:-6], 1),
        (make_block()[:4] + b"\xff\xff\xff\xff" + make_block()[8:], 1),
        (b"II*\0" + struct.pack("<IH", 8, 65535) + make_block()[10:], 6),
        (b"XX" + make_block()[2:], 1),
        (b"", 1),
    ],
)
def test_damaged_block_turns_image_as_it_is_reported(block: bytes, orientation: int) -> None:
    stored = Image.fromarray(UPRIGHT)
    out = io.BytesIO()
    stored.save(out, "JPEG", quality=95)
    decoded = image_io.decode(with_block(out.getvalue(), block), "image")
    assert decoded.orientation == orientation
    assert decoded.pixels.shape == (UPRIGHT.shape[::-1] if orientation >= 5 else UPRIGHT.shape)


def test_random_damage_never_raises_and_shape_follows_orientation() -> None:
    generator = random.Random(1)  # noqa: S311 - not for a secret
    for suffix in ("JPEG", "PNG", "WEBP", "TIFF"):
        whole = encode(suffix, 6)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(3):
                data[generator.randrange(8, min(len(data), 400))] = generator.randrange(256)
            assert 1 <= exif.read_orientation(bytes(data)) <= 8
            exif.read_date(bytes(data[: generator.randrange(len(data))]))
            try:
                decoded = image_io.decode(bytes(data), "image")
            except DataError:
                continue
            if decoded.pixels.size == UPRIGHT.size:
                stored = (64, 40)
                assert decoded.pixels.shape == (stored[::-1] if decoded.orientation >= 5 else stored)


def test_block_that_claims_many_tags_takes_little_memory() -> None:
    entries = b"".join(struct.pack("<HHII", 0x9003, 2, 60_000, 8) for _ in range(60_000))
    data = b"II*\0" + struct.pack("<IH", 8, 60_000) + entries
    tracemalloc.start()
    exif.read_orientation(data)
    exif.read_date(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("suffix", "tag"),
    [
        *((suffix, tag) for suffix in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF") for tag in (0x9003, 0x9004, 0x0132)),
        ("TIFF", 0x0132),  # Pillow writes no other into a TIFF
    ],
)
def test_finds_date_in_every_format(suffix: str, tag: int) -> None:
    tags = Image.Exif()
    tags[0x0132] = "0000:00:00 00:00:00"
    details = tags.get_ifd(0x8769)
    details[0x9003] = "    :  :     :  :  "
    (tags if tag == 0x0132 else details)[tag] = "2012:04:07 10:20:30"
    out = io.BytesIO()
    if suffix == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.fromarray(UPRIGHT).convert("RGB").save(out, suffix, exif=tags)
    assert exif.read_date(out.getvalue()) == DATE


def test_original_date_comes_before_the_others() -> None:
    tags = Image.Exif()
    tags[0x0132] = "2020:01:01 00:00:00"
    tags.get_ifd(0x8769)[0x9004] = "2019:01:01 00:00:00"
    tags.get_ifd(0x8769)[0x9003] = "2012:04:07 10:20:30"
    out = io.BytesIO()
    Image.fromarray(UPRIGHT).save(out, "JPEG", exif=tags)
    assert exif.read_date(out.getvalue()) == DATE
    assert exif.read_date(b"no image") is None
