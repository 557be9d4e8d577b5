"""Test corrections of the labels of a detector's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.datasets.faces import load_faces
from fer_edge.detection.label_corrections import correct_labels
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "file,kind,x,y,w,h\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "train"
    folder.mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((100, 100), np.uint8))
    points = ",".join(f"lm{i}{axis}" for i in range(5) for axis in "xy")
    face = "a.png,10,10,20,20,0.7," + ",".join(map(str, range(10)))
    (folder / "labels.csv").write_text(
        f"file,x,y,w,h,score,{points}\n{face}\na.png,60,60,20,20,0.9{',' * 10}\nb.png{',' * 15}"
    )
    (folder / "ignore.csv").write_text("file,x,y,w,h\na.png,10,60,20,20\nb.png,10,10,40,40\n")
    return folder


def test_corrections_take_the_place_of_labels(images: Path, tmp_path: Path) -> None:
    table = tmp_path / "corrections.csv"
    table.write_text(
        f"{HEAD}a.png,face,11,11,20,20\na.png,none,60,60,20,20\na.png,ignore,80,10,10,10\nb.png,none,12,12,30,30\n"
        "elsewhere.png,face,1,1,9,9\n"
    )
    before = load_faces(images)
    first, second = correct_labels(before, table).images
    assert first.boxes.tolist() == [[11, 11, 20, 20]]
    assert first.scores.tolist() == [1]
    assert first.landmarks[0].tolist() == np.arange(10).reshape(5, 2).tolist(), "those of the label"
    assert first.not_faces.tolist() == [[60, 60, 20, 20]]
    assert first.ignored.tolist() == [[10, 60, 20, 20], [80, 10, 10, 10]]
    assert second.not_faces.tolist() == [[12, 12, 30, 30]]
    assert not len(second.ignored)
    assert (first.corrected, second.corrected) == (True, True)
    assert [len(image.boxes) for image in before.images] == [2, 0], "the dataset itself stays"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("file,kind,x,y,w\na.png,face,1,1,9\n", "no column h"),
        (f"{HEAD}a.png,maybe,1,1,9,9\n", "line 2: kind is 'maybe', not face, none, ignore"),
        (f"{HEAD}a.png,face,,,,\n", "line 2: kind is 'face'.* or has no box"),
        (f"{HEAD}a.png,none,1,1,nan,9\n", "line 2: w is 'nan'"),
        (f"{HEAD}c.png,none,1,1,9,9\n", "lists none of the images in"),
    ],
)
def test_wrong_tables_are_refused(images: Path, tmp_path: Path, content: str, problem: str) -> None:
    table = tmp_path / "corrections.csv"
    table.write_text(content)
    with pytest.raises(DataError, match=f"corrections.csv.*{problem}"):
        correct_labels(load_faces(images), table)
