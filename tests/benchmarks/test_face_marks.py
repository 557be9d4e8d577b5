"""The faces marked by eye: the tables agree with each other and with their description."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "face_marks"
POSES = {"frontal", "turned", "profile", "bowed", "tilted"}
COVERS = {"glasses", "sunglasses", "hand", "mask", "object", "hair"}
TYPES = {"portrait", "close-up", "group", "street", "distractor", "empty"}
BANDS = (("12 to 20", 12, 20), ("20 to 32", 20, 32), ("32 to 64", 32, 64), ("64 to 128", 64, 128), ("128", 128, 9999))

Rows = list[dict[str, str]]


def read(name: str) -> Rows:
    with (FOLDER / name).open(newline="") as rows:
        return list(csv.DictReader(rows))


@pytest.fixture(scope="module")
def marks() -> Rows:
    return read("marks.csv")


@pytest.fixture(scope="module")
def split() -> Rows:
    return read("split.csv")


def test_each_image_is_in_one_part_and_each_group_too(split: Rows) -> None:
    assert max(Counter(row["file"] for row in split).values()) == 1
    parts = defaultdict(set)
    for row in split:
        assert row["part"] in {"development", "test"}
        parts[row["group"]].add(row["part"])
    assert all(len(one) == 1 for one in parts.values())


def test_images_seen_in_training_are_in_no_development_part(split: Rows) -> None:
    assert all(row["part"] == "test" for row in split if row["seen_in_training"] == "1")
    seen = {row["source"] for row in split if row["seen_in_training"] == "1"}
    assert not seen & {row["source"] for row in split if row["seen_in_training"] == "0"}


def test_marked_images_are_those_with_rows_and_all_in_the_test_part(split: Rows, marks: Rows) -> None:
    marked = {row["file"] for row in split if row["marked"] == "1"}
    assert marked == {row["file"] for row in marks}
    assert len(marked) >= 400
    assert all(row["part"] == "test" and row["type"] in TYPES for row in split if row["marked"] == "1")
    assert not any(row["type"] for row in split if row["marked"] == "0")


def test_corrections_are_for_development_images_alone(split: Rows) -> None:
    rows = {row["file"]: row for row in split}
    corrections = read("development.csv")
    assert {row["kind"] for row in corrections} == {"face", "none", "ignore"}
    for row in corrections:
        image = rows[row["file"]]
        assert image["part"] == "development"
        x, y, width, height = (float(row[key]) for key in "xywh")
        assert 0 <= x <= x + width <= int(image["width"]) + 0.1
        assert 0 <= y <= y + height <= int(image["height"]) + 0.1
        assert row["kind"] != "face" or max(width, height) >= 12


def test_corrections_of_training_images_reserve_none_for_tests(split: Rows) -> None:
    reserved = {row["file"] for row in split}
    corrections = read("training.csv")
    assert len(corrections) > 2000
    for row in corrections:
        assert row["file"] not in reserved
        assert row["kind"] in {"face", "none", "ignore"}
        assert max(float(row["w"]), float(row["h"])) >= 24
        assert min(float(row["w"]), float(row["h"])) > 0


def test_boxes_lie_inside_their_images_and_differ(split: Rows, marks: Rows) -> None:
    sizes = {row["file"]: (int(row["width"]), int(row["height"])) for row in split}
    boxes = [row for row in marks if row["kind"]]
    for row in boxes:
        x, y, w, h = (float(row[key]) for key in "xywh")
        width, height = sizes[row["file"]]
        assert x >= 0, row
        assert y >= 0, row
        assert min(w, h) > 1, row
        assert x + w <= width + 0.11, row
        assert y + h <= height + 0.11, row
    assert max(Counter((row["file"], *(row[key] for key in "xywh")) for row in boxes).values()) == 1


def test_an_image_without_a_region_has_one_empty_row(marks: Rows) -> None:
    empty = {row["file"] for row in marks if not row["kind"]}
    count = Counter(row["file"] for row in marks)
    for row in marks:
        if not row["kind"]:
            assert not any(value for key, value in row.items() if key != "file")
    assert all(count[file] == 1 for file in empty)


def test_faces_have_a_pose_and_regions_to_ignore_have_none(marks: Rows) -> None:
    for row in marks:
        if row["kind"] == "face":
            assert row["pose"] in POSES, row
            assert set(filter(None, row["covered"].split("+"))) <= COVERS, row
            assert max(float(row["w"]), float(row["h"])) >= 12, row
        else:
            assert row["kind"] in {"ignore", ""}, row
            assert not row["pose"], row
            assert not row["covered"], row


def test_the_readme_gives_the_right_counts(split: Rows, marks: Rows) -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    table = {
        name.strip(): tuple(map(int, numbers))
        for name, *numbers in re.findall(r"^\| ([^|]+?) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    }
    new = {row["file"]: row["seen_in_training"] == "0" for row in split}

    def counts(files: list[str]) -> tuple[int, int, int]:
        unseen = sum(new[file] for file in files)
        return len(files), unseen, len(files) - unseen

    faces = [row for row in marks if row["kind"] == "face"]
    expected = {
        "images": counts(sorted({row["file"] for row in marks})),
        "images with a face": counts(sorted({row["file"] for row in faces})),
        "faces": counts([row["file"] for row in faces]),
        "regions to ignore": counts([row["file"] for row in marks if row["kind"] == "ignore"]),
    }
    for name, low, high in BANDS:
        files = [row["file"] for row in faces if low <= max(float(row["w"]), float(row["h"])) < high]
        expected[f"faces of {name} pixels" + (" and more" if name == "128" else "")] = counts(files)
    for pose in POSES:
        expected[pose] = counts([row["file"] for row in faces if row["pose"] == pose])
    for cover in COVERS:
        expected[cover] = counts([row["file"] for row in faces if cover in row["covered"].split("+")])
    for kind in TYPES:
        expected[f"{kind} images"] = counts([row["file"] for row in split if row["type"] == kind])
    assert table == expected
