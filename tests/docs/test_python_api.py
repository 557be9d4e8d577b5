"""What the pages about Python and the README show works, block after block, as a reader would type it."""

from __future__ import annotations

import inspect
import re
import shutil
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge import demo
from tests.manual import ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs/how-to/python.md"
REFERENCE = ROOT / "docs/reference/python-api.md"
NO_CAMERA = ("source=0", 'source="demo"')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a current folder with the files that the page names."""
    cv2.imwrite(str(tmp_path / "photo.jpg"), demo.frame(60))
    cv2.imwrite(str(tmp_path / "crop.png"), demo.face("happy").astype(np.uint8))
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (30, 90):
        cv2.imwrite(str(photos / f"{number}.jpg"), demo.frame(number))
    (photos / "notes.txt").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_of_the_guide_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    for block in blocks(GUIDE, "python"):
        exec(block.replace(*NO_CAMERA), namespace)  # noqa: S102 - that is what is tested
    output = capsys.readouterr().out
    assert "surprise" in output
    assert "notes.txt: not an image" in output
    assert cv2.imread(str(folder / "out.jpg")) is not None
    assert (folder / "faces.csv").read_text().count("photos/") == len(namespace["rows"]) > 2
    assert [len(result) > 0 for result in namespace["results"]] == [True, True]


@pytest.mark.usefixtures("folder")
def test_every_block_of_the_reference_runs(capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    for block in blocks(REFERENCE, "python"):
        exec(block, namespace)  # noqa: S102 - that is what is tested
    assert "values of type float64" in capsys.readouterr().out


def test_blocks_use_only_what_the_page_defines(folder: Path) -> None:
    shutil.rmtree(folder / "photos")  # the first block is what people try first
    exec(blocks(GUIDE, "python")[0], {})  # noqa: S102


@pytest.mark.usefixtures("folder")
def test_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    exec(block, {})  # noqa: S102 - that is what is tested
    assert "surprise 0.9" in capsys.readouterr().out


def test_reference_lists_every_argument_and_public_name() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    reference = page.partition("## Reference")[2]
    for name in ("load", "annotate", "watch", "tag"):
        (line,) = re.findall(rf"^{name}\((.*)\) ->", reference, re.MULTILINE)
        named = re.findall(r"(\w+)(?:=[^,]*)?(?:, |$)", line)
        assert named == list(inspect.signature(getattr(fer_edge, name)).parameters), name
    for name in fer_edge.__all__:
        assert name in page or name == "__version__", name
