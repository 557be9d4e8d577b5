"""Test reading of EXIF blocks, also damaged ones and without Pillow."""

from __future__ import annotations

import random
import struct
import tracemalloc
from datetime import datetime
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from fer_edge import demo
from fer_edge.errors import MissingExtraError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging.input import exif
from fer_edge.tagging.input.dates import date_of
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.run import tag

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = TagOptions(model=str(DEFAULT_MODEL))


def make_block(orientation: int = 6) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    tags[0x0132] = "2020:01:01 00:00:00"
    tags.get_ifd(0x8769)[0x9003] = "2024:05:01 10:00:00"
    return bytes(tags.tobytes())


def test_reads_orientation_and_date() -> None:
    assert exif.read_orientation(make_block()) == 6
    assert exif.read_orientation(make_block(99)) == 1
    assert exif.read_orientation(b"") == 1
    assert exif.read_date(make_block()) == datetime(2024, 5, 1, 10)  # noqa: DTZ001 - local, as cameras write it


def test_damaged_blocks_give_defaults() -> None:
    block = make_block()
    for length in range(len(block)):
        exif.read_orientation(block[:length])
    generator = random.Random(1)  # noqa: S311 - not for a secret
    for _ in range(300):
        damaged = bytearray(block)
        for _ in range(4):
            damaged[generator.randrange(6, len(damaged))] = generator.randrange(256)
        assert 1 <= exif.read_orientation(bytes(damaged)) <= 8
        exif.read_date(bytes(damaged))


def test_block_that_claims_huge_values_takes_little_memory() -> None:
    entries = b"".join(struct.pack("<HHII", 40_000 + number, 7, 60_000, 8) for number in range(5000))
    block = exif.PREFIX + b"II*\0" + struct.pack("<IH", 8, 5000) + entries
    tracemalloc.start()
    exif.read_orientation(block + bytes(1 << 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 400 << 20


def test_regions_of_a_sidecar_refer_to_the_stored_image(tmp_path: Path) -> None:
    image = Image.fromarray(demo.frame(60))
    (tmp_path / "in").mkdir()
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / "turned.jpg", quality=95, exif=make_block(6))
    image.save(tmp_path / "in" / "upright.jpg", quality=95)
    options = TagOptions(model=str(DEFAULT_MODEL), sidecars=True)
    tag([str(tmp_path / "in")], Outputs(str(tmp_path / "t.csv")), options)
    centres, sizes = [], []
    for name in ("turned", "upright"):
        root = ET.fromstring((tmp_path / "in" / f"{name}.jpg.xmp").read_text())  # noqa: S314 - our own
        areas = [
            {key.partition("}")[2]: value for key, value in area.attrib.items()} for area in root.iterfind(".//{*}Area")
        ]
        centres.append(sorted((float(area["x"]), float(area["y"])) for area in areas))
        size = root.find(".//{*}AppliedToDimensions")
        assert size is not None
        sizes.append([value for key, value in size.attrib.items() if key.endswith(("}w", "}h"))])
    assert sizes == [["480", "640"], ["640", "480"]]
    # The upright image is the stored one rotated clockwise: its point (x, y) is (y, 1 - x) in the stored image.
    expected = sorted((y, 1 - x) for x, y in centres[1])
    for point, expected_point in zip(centres[0], expected, strict=True):
        assert point == pytest.approx(expected_point, abs=0.03)


def test_without_pillow_only_sidecars_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exif, "is_available", lambda: False)
    Image.fromarray(demo.frame(60)).save(tmp_path / "a.jpg", exif=make_block(1))
    out = Outputs(str(tmp_path / "t.csv"))
    with pytest.raises(MissingExtraError, match=r"fer-edge\[tag\]"):
        tag([str(tmp_path / "a.jpg")], out, TagOptions(model=str(DEFAULT_MODEL), sidecars=True))
    assert tag([str(tmp_path / "a.jpg")], out, OPTIONS).faces == 3
    date = date_of(tmp_path / "a.jpg")
    assert date is not None
    assert not date.from_camera
