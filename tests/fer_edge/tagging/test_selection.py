from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.utils.image_io import read_gray

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Sample


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_hard_and_rare_faces_of_a_study_are_selected(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    images, out, folder = tmp_path / "images", tmp_path / "t.csv", tmp_path / "to review"
    images.mkdir()
    for number, face in enumerate(sample.faces):
        assert cv2.imwrite(str(images / f"{number:03}.png"), face)
    result = cli("tag", images, "--out", out, "--face", "--collect", folder)
    faces = {row["file"]: row for row in rows_of(folder / "faces.csv")}
    assert f"{folder}: {len(faces)} faces to review" in result.stdout
    assert {path.name for path in folder.iterdir()} == {*faces, "faces.csv"}
    tagged = {row["path"]: row for row in rows_of(out)}
    classifier = TFLiteClassifier()
    for name, face in faces.items():
        row = tagged[face["group"]]
        assert face["emotion"] == row["emotion"]
        assert row["reliable"] == "1"
        scores = sorted(float(value) for key, value in face.items() if key.startswith("score_"))
        assert (scores[-1] - scores[-2] < 0.2) is (face["reason"] == "uncertain")
        crop = read_gray(folder / name)
        if face["reason"] == "contradictory":
            both = classifier.classify(np.stack([crop, crop[:, ::-1]]))
            assert both[0].argmax() != both[1].argmax()
    assert {"uncertain", "contradictory"} <= {face["reason"] for face in faces.values()}
    uncertain = [row for row in tagged.values() if row["reliable"] == "1" and _margin(row) < 0.199]
    assert len(uncertain) <= sum(face["reason"] == "uncertain" for face in faces.values())
    assert (
        "contains files already"
        in cli("tag", images, "--out", tmp_path / "u.csv", "--collect", folder, status=2).stderr
    )


def _margin(row: dict[str, str]) -> float:
    second, best = sorted(float(value) for key, value in row.items() if key.startswith("score_"))[-2:]
    return best - second


def test_rare_is_decided_by_the_whole_table(cli: Cli, sample: Sample, tmp_path: Path) -> None:
    images, folder = tmp_path / "images", tmp_path / "review"
    images.mkdir()
    labels = TFLiteClassifier().card.labels
    scores = TFLiteClassifier().classify(sample.faces)
    sure = np.sort(scores, axis=1)[:, -1] > 0.9
    happy = [
        face
        for face, row, good in zip(sample.faces, scores, sure, strict=True)
        if good and labels[row.argmax()] == "happy"
    ]
    angry = [
        face
        for face, row, good in zip(sample.faces, scores, sure, strict=True)
        if good and labels[row.argmax()] == "angry"
    ]
    for number in range(300):
        assert cv2.imwrite(str(images / f"{number:03}.png"), (angry[:5] + happy * 9)[number])
    cli("tag", images, "--out", tmp_path / "t.csv", "--face", "--collect", folder)
    rare = [row for row in rows_of(folder / "faces.csv") if row["reason"] == "rare"]
    assert {row["emotion"] for row in rare} == {"angry"}
    assert 1 <= len(rare) <= 5


def test_crops_of_photographs_have_more_detail(cli: Cli, tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "photo.png"), cv2.resize(demo.frame(10), None, fx=2.0, fy=2.0))
    cli("tag", tmp_path / "photo.png", "--out", tmp_path / "t.csv", "--collect", tmp_path / "review")
    for path in (tmp_path / "review").glob("*.png"):
        assert read_gray(path).shape in {(96, 96), (144, 144)}
