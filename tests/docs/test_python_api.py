"""What docs/python-api.md and the README show works, block after block, as a reader would type it."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge import demo

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python-api.md").read_text()
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
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


def test_every_block_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {}
    for block in BLOCKS:
        exec(block.replace(*NO_CAMERA), namespace)  # noqa: S102 - that is what is tested
    output = capsys.readouterr().out
    assert "surprise" in output
    assert "values of type float64" in output
    assert "notes.txt: not an image" in output
    assert cv2.imread(str(folder / "out.jpg")) is not None
    assert (folder / "faces.csv").read_text().count("photos/") == len(namespace["rows"]) > 2
    assert [len(result) > 0 for result in namespace["results"]] == [True, True]


def test_blocks_use_only_what_the_page_defines(folder: Path) -> None:
    shutil.rmtree(folder / "photos")  # the first block is what people try first
    exec(BLOCKS[0], {})  # noqa: S102


def test_the_readme_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(block.replace('watch("auto")', 'watch("demo")'), {})  # noqa: S102 - that is what is tested
    assert "update surprise" in capsys.readouterr().out
    assert (folder / "out.jpg").exists()


def test_reference_lists_every_argument_and_public_name() -> None:
    reference = PAGE.partition("## Reference")[2]
    for name in ("load", "annotate", "watch", "tag"):
        (line,) = re.findall(rf"^{name}\((.*)\) ->", reference, re.MULTILINE)
        named = re.findall(r"(\w+)(?:=[^,]*)?(?:, |$)", line)
        assert named == list(inspect.signature(getattr(fer_edge, name)).parameters), name
    for name in fer_edge.__all__:
        assert name in PAGE or name == "__version__", name
