"""Test tagging from Python, which must give the same rows as a table."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge import demo
from fer_edge.errors import InputError, ModelError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.rows import tag_rows
from fer_edge.tagging.run import tag

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an image of three faces, one without faces, a damaged one, and a video of ten seconds."""
    folder = tmp_path_factory.mktemp("rows")
    cv2.imwrite(str(folder / "faces.png"), demo.frame(60))
    cv2.imwrite(str(folder / "wall.png"), demo.wall())
    (folder / "damaged.jpg").write_bytes(b"no image")
    writer = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 3, (320, 240))
    for number in range(60, 90):
        writer.write(cv2.cvtColor(cv2.resize(demo.frame(number), (320, 240)), cv2.COLOR_GRAY2BGR))
    writer.release()
    return folder


@pytest.mark.parametrize("workers", [0, 1])
def test_rows_equal_those_of_a_table(folder: Path, tmp_path: Path, workers: int) -> None:
    tag([str(folder)], Outputs(str(tmp_path / "t.csv")), TagOptions(model=str(DEFAULT_MODEL), every=2.0))
    with (tmp_path / "t.csv").open(newline="") as file:
        expected = list(csv.DictReader(file))
    rows = list(tag_rows([folder, folder / "wall.png", folder], every=2.0, workers=workers))
    by_path = {row["path"] for row in rows}
    assert len(by_path) == 4
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    assert sorted(as_text, key=str) == sorted(expected, key=str)


def test_one_path_and_a_generator_are_accepted(folder: Path) -> None:
    rows = list(tag_rows(folder / "faces.png"))
    assert len(rows) == 3
    assert list(tag_rows(path for path in [str(folder / "faces.png")])) == rows


def test_keeps_the_number_of_opencv_threads(folder: Path) -> None:
    before = cv2.getNumThreads()
    list(tag_rows(folder / "faces.png"))
    assert cv2.getNumThreads() == before


def test_errors_come_before_the_first_row(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        tag_rows(folder / "none.png")
    with pytest.raises(InputError, match="give a number of seconds above 0"):
        tag_rows(folder, every=0)
    with pytest.raises(InputError, match="give a number of processes"):
        tag_rows(folder, workers=-1)
    with pytest.raises(ModelError):
        tag_rows(folder, model="none.tflite")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: contains no images"):
        list(tag_rows(tmp_path / "empty"))
