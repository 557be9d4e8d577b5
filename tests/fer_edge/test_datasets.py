from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge.datasets import Dataset, load_dataset, load_votes
from fer_edge.emotions import FER2013
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Sample

ONE_ROW = "0," + " ".join(["7"] * 2304)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_csv_gives_every_pixel_and_usage(sample: Sample, fer2013_csv: Path) -> None:
    data = load_dataset(fer2013_csv)
    assert data.labels == FER2013
    assert (data.faces == sample.faces).all()
    assert data.classes.tolist() == [int(row["emotion"]) for row in sample.rows]
    assert data.usages.tolist() == [row["Usage"] for row in sample.rows]


def test_headers_may_have_spaces_and_any_order(tmp_path: Path) -> None:
    path = write(tmp_path / "icml.csv", f"emotion, Usage, pixels\n3,PublicTest,{ONE_ROW[2:]}\n")
    data = load_dataset(path)
    assert (data.classes.tolist(), data.usages.tolist()) == ([3], ["PublicTest"])


def test_without_a_usage_column_all_is_training(tmp_path: Path) -> None:
    assert load_dataset(write(tmp_path / "train.csv", f"emotion,pixels\n{ONE_ROW}\n")).usages.tolist() == ["Training"]


def test_tree_and_zips_of_both_forms_hold_the_same_as_the_csv(sample: Sample, tmp_path: Path) -> None:
    part = slice(0, 700, 25)
    expected = load_dataset(sample.write_csv(tmp_path / "some.csv", part))
    tree = sample.write_tree(tmp_path / "tree", part)
    members = {str(p.relative_to(tree)): p.read_bytes() for p in sorted(tree.rglob("*.png"))}
    forms = [
        tree,
        zipped(tmp_path / "tree.zip", members),
        zipped(tmp_path / "inside.zip", {f"archive/{name}": data for name, data in members.items()}),
        zipped(tmp_path / "csv.zip", {"fer2013.csv": (tmp_path / "some.csv").read_bytes()}, zipfile.ZIP_DEFLATED),
    ]

    def content(data: Dataset) -> list[tuple[bytes, int, bool]]:
        usages = [usage == "Training" for usage in data.usages]
        return sorted(
            (face.tobytes(), int(label), usage)
            for face, label, usage in zip(data.faces, data.classes, usages, strict=True)
        )

    for form in forms:
        assert content(load_dataset(form)) == content(expected), form


def test_folders_of_other_names_become_labels_and_pictures_of_any_size_are_read(tmp_path: Path) -> None:
    for label, size in (("awake", (120, 80)), ("asleep", (31, 47))):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.jpg"), np.full((*size, 3), 90, np.uint8))
    data = load_dataset(tmp_path)
    assert data.labels == ("asleep", "awake")
    assert data.faces.shape == (2, 48, 48)
    assert data.usages.tolist() == ["Training", "Training"]


def test_unreadable_picture_in_a_folder_is_named_and_skipped(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    (tree / "train" / "happy" / "broken.png").write_bytes(b"not a picture")
    data = load_dataset(tree)
    assert len(data) == 14
    assert len(data.skipped) == 1
    assert "broken.png" in data.skipped[0]


def test_every_common_name_of_a_test_folder_keeps_its_pictures_out_of_training(sample: Sample, tmp_path: Path) -> None:
    for number, part in enumerate(("training", "testing", "dev", "FER2013Valid", "PrivateTest")):
        for label, face in zip(("happy", "sad"), sample.faces[number * 2 :], strict=False):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "1.png"), face)
    usages = load_dataset(tmp_path).usages.tolist()
    assert sorted(set(usages)) == ["PrivateTest", "PublicTest", "Training", "test", "validation"]
    assert usages.count("Training") == 2


def test_folders_that_are_no_known_part_are_refused_instead_of_trained_on(sample: Sample, tmp_path: Path) -> None:
    for part in ("train", "holdout"):
        for label in ("happy", "sad"):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            cv2.imwrite(str(folder / "1.png"), sample.faces[0])
    with pytest.raises(DataError, match="no known part: 'holdout'"):
        load_dataset(tmp_path)


def test_labels_are_those_that_occur_in_the_order_of_fer2013(sample: Sample, tmp_path: Path) -> None:
    for label in ("neutral", "happy"):
        (tmp_path / label).mkdir()
        cv2.imwrite(str(tmp_path / label / "1.png"), sample.faces[0])
    assert load_dataset(tmp_path).labels == ("happy", "neutral")


def test_usage_without_a_name_is_what_to_test_on(fer2013_csv: Path, sample: Sample, tmp_path: Path) -> None:
    data = load_dataset(fer2013_csv)
    assert set(data.usage().usages) == {"PublicTest"}
    assert set(data.usage("train").usages) == {"Training"}
    only = load_dataset(sample.write_csv(tmp_path / "only.csv", slice(0, 5)))
    assert len(only.usage()) == 5
    with pytest.raises(DataError, match="no rows of usage PrivateTest; it has PublicTest, Training"):
        data.usage("PrivateTest")


def test_votes_are_ordered_as_the_labels(fer2013_csv: Path, sample: Sample) -> None:
    data = load_dataset(fer2013_csv)
    votes = load_votes(fer2013_csv.with_name("fer2013new.csv"), data)
    assert votes.shape == (700, 7)
    for row, label in ((0, "angry"), (120, "fear"), (699, "neutral")):
        column = {"angry": "anger"}.get(label, label)
        assert votes[row, FER2013.index(label)] == int(sample.rows[row][column])


def test_votes_of_other_rows_are_refused(fer2013_csv: Path, sample: Sample, tmp_path: Path) -> None:
    short = sample.write_votes(tmp_path / "short.csv", slice(0, 699))
    with pytest.raises(DataError, match=r"its 699 rows are not the 700 rows"):
        load_votes(short, load_dataset(fer2013_csv))
    ragged = tmp_path / "ragged.csv"
    ragged.write_text(short.read_text() + "PublicTest,fer1.png,1,2\n")
    with pytest.raises(DataError, match="line 701: not as many columns"):
        load_votes(ragged, load_dataset(fer2013_csv))
    with pytest.raises(DataError, match="no column Usage"):
        load_votes(write(tmp_path / "other.csv", "a,b\n1,2\n"), load_dataset(fer2013_csv))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column emotion or pixels"),
        ("emotion,pixels,Usage\n", "no rows"),
        (f"label,pixels\n{ONE_ROW}\n", "no column emotion in its first line"),
        (f"emotion,pixels\n{ONE_ROW[:-2]}\n", "line 2: 2303 pixels, not 2304"),
        (f"emotion,pixels\n{ONE_ROW}\n{ONE_ROW} 7\n", "line 3: 2305 pixels, not 2304"),
        (f"emotion,pixels\n{ONE_ROW[:-1]}300\n", "pixels outside 0 to 255"),
        (f"emotion,pixels\n{ONE_ROW[:-1]}x\n", "pixels that are not whole numbers"),
        (f"emotion,pixels\n9{ONE_ROW[1:]}\n", "emotion is '9', not a number from 0 to 6"),
        (f"emotion,pixels,Usage\n{ONE_ROW}\n", "2 of 3 columns"),
    ],
)
def test_damaged_csv_is_refused_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint):
        load_dataset(write(tmp_path / "fer2013.csv", text))


def test_missing_binary_and_empty_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        load_dataset(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="no pictures in class folders"):
        load_dataset(tmp_path)
    (tmp_path / "model.bin").write_bytes(os.urandom(999))
    with pytest.raises(DataError, match=r"not a text file|no column"):
        load_dataset(tmp_path / "model.bin")


def test_folder_without_classes_is_refused(sample: Sample, tmp_path: Path) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), sample.faces[number])
    with pytest.raises(DataError, match="no pictures in class folders"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["../happy/1.png", "/train/happy/1.png", "train\\..\\..\\happy\\1.png", "C:/happy/1.png"]
)
def test_zip_that_points_outside_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(zipped(tmp_path / "evil.zip", {name: b"x"}))


def test_zip_with_a_nameless_member_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="points outside the archive"):
        load_dataset(zipped(tmp_path / "evil.zip", {".": b"x"}))


def test_zip_written_with_backslashes_is_read(sample: Sample, tmp_path: Path) -> None:
    tree = sample.write_tree(tmp_path / "tree", slice(0, 700, 50))
    members = {str(p.relative_to(tree)).replace("/", "\\"): p.read_bytes() for p in tree.rglob("*.png")}
    assert len(load_dataset(zipped(tmp_path / "windows.zip", members))) == 14


def test_zip_with_other_tables_and_a_stray_picture_gives_the_faces(sample: Sample, tmp_path: Path) -> None:
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 5)).read_bytes()
    members = {"example_submission.csv": b"id,emotion\n1,2\n", "cover.png": b"x", "icml_face_data.csv": csv}
    assert len(load_dataset(zipped(tmp_path / "kaggle.zip", members))) == 5


def test_decompression_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    bomb = zipped(tmp_path / "bomb.zip", {"train/happy/1.png": bytes(64 << 20)}, zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match="would unpack from"):
        load_dataset(bomb)


def test_zip_cut_short_or_damaged_is_refused(sample: Sample, tmp_path: Path) -> None:
    csv = sample.write_csv(tmp_path / "some.csv", slice(0, 20)).read_bytes()
    whole = zipped(tmp_path / "whole.zip", {"fer2013.csv": csv}, zipfile.ZIP_DEFLATED).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a zip archive, or one cut short"):
        load_dataset(tmp_path / "cut.zip")
    middle = len(whole) // 2
    (tmp_path / "flipped.zip").write_bytes(whole[:middle] + bytes(200) + whole[middle + 200 :])
    with pytest.raises(DataError, match="damaged"):
        load_dataset(tmp_path / "flipped.zip")
