from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.datasets.faces import load_faces, without_test_images
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = "file,width,height,x,y,w,h,score," + ",".join(f"lm{i}{axis}" for i in range(5) for axis in "xy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    part = tmp_path / "val"
    part.mkdir()
    for number in range(2):
        with zipfile.ZipFile(part / f"{number}.zip", "w") as archive:
            png = cv2.imencode(".png", np.full((20 + number, 30), 50 * number, np.uint8))[1]
            archive.writestr(f"{number}.png", png.tobytes())
    complete = "1.png,30,21,1.5,2,10,12,0.75,1,2,3,4,5,6,7,8,9,10"
    box_only = "1.png,30,21,15,2,10,12,,,,,,,,,,,"
    empty = f"0.png,30,20{',' * 15}"
    missing = complete.replace("1.png", "gone.png")
    (part / "labels.csv").write_text(f"{COLUMNS}\n{empty}\n{complete}\n{box_only}\n{missing}")
    (part / "ignore.csv").write_text("file,x,y,w,h,score,why\n0.png,1,2,3,4,0.4,low_score\n")
    return tmp_path


@pytest.mark.parametrize("part", ["", "val"])
def test_reads_labels_and_images(folder: Path, part: str) -> None:
    faces = load_faces(folder if part else folder / "val", part)
    assert faces.labelled
    assert [image.name for image in faces.images] == ["0.png", "1.png"]
    first, second = faces.images
    assert (len(first.boxes), first.ignored.tolist()) == (0, [[1, 2, 3, 4]])
    assert second.boxes.tolist() == [[1.5, 2, 10, 12], [15, 2, 10, 12]]
    assert second.scores.tolist() == [0.75, 1]
    assert second.landmarks[0].tolist() == [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10]]
    assert np.isnan(second.landmarks[1]).all()
    assert faces.gray(1).shape == (21, 30)
    assert faces.subset([1]).gray(0).mean() == 50


def test_reads_unlabelled_images(folder: Path) -> None:
    (folder / "val" / "labels.csv").unlink()
    cv2.imwrite(str(folder / "val" / "z.png"), np.zeros((5, 6), np.uint8))
    for path, count in ((folder, 3), (folder / "val" / "0.zip", 1)):
        faces = load_faces(path)
        assert (len(faces), faces.labelled) == (count, False)
        assert faces.gray(count - 1).dtype == np.uint8


def test_leaves_out_images_that_are_reserved_for_tests(folder: Path) -> None:
    data, split = load_faces(folder, "val"), folder / "split.csv"
    split.write_text("file,source,part\n1.png,a,test\nelsewhere.png,a,test\n")
    kept, _ = without_test_images([data, data], split)
    assert [image.name for image in kept.images] == ["0.png"]
    assert kept.gray(0).shape == (20, 30)
    split.write_text("file,part\n1.png,development\n")
    assert len(without_test_images([data], split)[0]) == 2
    for text, message in (
        ("file,part\n1.png,tset\n", "split.csv, line 2: part is 'tset', not development or test"),
        ("file,part\nelsewhere.png,test\n", "split.csv: it lists none of the images in .*val"),
        ("file\n1.png\n", "split.csv: no column part; it needs file, part"),
    ):
        split.write_text(text)
        with pytest.raises(DataError, match=message):
            without_test_images([data], split)
    with pytest.raises(DataError, match=r"none\.csv"):
        without_test_images([data], folder / "none.csv")


def test_rejects_damaged_data(folder: Path) -> None:
    with pytest.raises(
        DataError, match="none: no such folder or zip; give a folder of images, or one with train/ and val/"
    ):
        load_faces(folder / "none")
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images in it"):
        load_faces(folder / "empty")
    labels = folder / "val" / "labels.csv"
    text = labels.read_text()
    for old, new, message in (
        ("1.5", "one", "x is 'one', which is not a number"),
        ("1.5", "nan", "x is 'nan', which is not a number"),
        ("0.75", "high", "score is 'high', which is not a number"),
        ("2,10,12,0.75", "2,10,0,0.75", "a box of 10x0 pixels"),
    ):
        labels.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=rf"labels.csv, line 3: {message}"):
            load_faces(folder, "val")
    labels.write_text(text)
    ignore = folder / "val" / "ignore.csv"
    ignore.write_text(ignore.read_text().replace("3,4", "3,-4"))
    with pytest.raises(DataError, match=r"ignore.csv, line 2: a box of 3x-4 pixels"):
        load_faces(folder, "val")
    ignore.unlink()
    labels.write_text(text + "\n0.png,1")
    with pytest.raises(DataError, match=r"labels.csv, line 6: too few columns"):
        load_faces(folder, "val")
    labels.write_text("a,b\n1,2")
    with pytest.raises(DataError, match=r"labels.csv: no column file"):
        load_faces(folder, "val")
    (folder / "val" / "0.zip").write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"0.zip: not a zip"):
        load_faces(folder, "val")
