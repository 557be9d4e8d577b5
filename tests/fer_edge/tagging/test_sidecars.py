"""Test that the face regions of XMP sidecars fit the images as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from fer_edge import demo
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.run import tag

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = TagOptions(model=str(DEFAULT_MODEL), sidecars=True)


def read_sidecar(path: Path) -> tuple[list[str], list[tuple[float, float]]]:
    """Return the size of the image that a sidecar states, and the centres of its regions, sorted."""
    root = ET.fromstring(path.read_text())  # noqa: S314 - our own
    areas = [
        {key.partition("}")[2]: value for key, value in area.attrib.items()} for area in root.iterfind(".//{*}Area")
    ]
    size = root.find(".//{*}AppliedToDimensions")
    assert size is not None
    sizes = [value for key, value in size.attrib.items() if key.endswith(("}w", "}h"))]
    return sizes, sorted((float(area["x"]), float(area["y"])) for area in areas)


def test_regions_refer_to_the_stored_image_in_every_format(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    upright = Image.fromarray(demo.frame(60)).convert("RGB")
    folder = tmp_path / "in"
    folder.mkdir()
    for suffix in ("jpg", "png", "webp", "avif", "heic"):
        tags = Image.Exif()
        tags[0x0112] = 6
        upright.transpose(Image.Transpose.ROTATE_90).save(folder / f"turned.{suffix}", quality=95, exif=tags)
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.tif", tiffinfo={0x0112: 6})
    upright.save(folder / "upright.jpg", quality=95)
    tag([str(folder)], Outputs(str(tmp_path / "t.csv")), OPTIONS)
    size, centres = read_sidecar(folder / "upright.jpg.xmp")
    assert size == ["640", "480"]
    assert len(centres) == 3
    # The upright image is the stored one rotated clockwise: its point (x, y) is (y, 1 - x) in the stored image.
    expected = sorted((y, 1 - x) for x, y in centres)
    for suffix in ("jpg", "png", "webp", "avif", "heic", "tif"):
        size, centres = read_sidecar(folder / f"turned.{suffix}.xmp")
        assert size == ["480", "640"], suffix
        assert len(centres) == 3, suffix
        for point, expected_point in zip(centres, expected, strict=True):
            assert point == pytest.approx(expected_point, abs=0.03), suffix
