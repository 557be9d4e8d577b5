from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.errors import DataError, InputError
from fer_edge.review.face_folder import read_face_folder
from fer_edge.tagging.output.face_folder import FaceFolder
from fer_edge.tagging.selected_face import SelectedFace

if TYPE_CHECKING:
    from pathlib import Path


def face(brightness: int, side: int = 48, **changes: object) -> SelectedFace:
    png = cv2.imencode(".png", np.full((side, side), brightness, np.uint8))[1].tobytes()
    made = SelectedFace(
        png=png,
        time=1_800_000_000.5,
        node="hall",
        model="edge-12345678",
        emotion="happy",
        scores={"happy": 0.6, "sad": 0.4},
        reason="uncertain",
        group="a-1",
    )
    return msgspec.structs.replace(made, **changes)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "faces.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_faces_of_models_with_other_labels_lie_in_one_folder(tmp_path: Path) -> None:
    path = tmp_path / "faces"
    FaceFolder(path).add({"a.png": face(10)})
    folder = FaceFolder(path)
    assert "a.png" in folder
    folder.add({"b.png": face(20, emotion="contempt", scores={"happy": 0.1, "contempt": 0.9}, time=None, node="=cmd")})
    first, second = rows_of(path)
    assert [*first] == [
        *("file", "sha256", "time", "node", "model", "emotion", "score_happy", "score_sad", "score_contempt"),
        *("reason", "group"),
    ]
    assert (first["time"], first["score_contempt"]) == ("2027-01-15T08:00:00.500Z", "")
    assert (second["time"], second["score_sad"], second["node"]) == ("", "", "'=cmd"), "no formula for a spreadsheet"
    review = read_face_folder(path)
    assert review.skipped == ()
    assert [each.prediction.emotion for each in review.faces] == ["happy", "contempt"]
    assert [dict(each.prediction.scores) for each in review.faces] == [
        {"happy": 0.6, "sad": 0.4},
        {"happy": 0.1, "contempt": 0.9},
    ]


def test_columns_of_other_programs_stay(tmp_path: Path) -> None:
    FaceFolder(tmp_path).add({"a.png": face(10)})
    table = tmp_path / "faces.csv"
    head, row = table.read_text().splitlines()
    table.write_text(f"{head},note\n{row},mine\n")
    FaceFolder(tmp_path).add({"b.png": face(20)})
    assert [row["note"] for row in rows_of(tmp_path)] == ["mine", ""]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("../a.png", {}),
        (".png", {}),
        ("a.jpg", {}),
        ("a.png", {"png": b"no image"}),
        ("a.png", {"png": b"\x89PNG\r\n\x1a\n damaged"}),
        ("a.png", {"png": face(1, 161).png}),
    ],
)
def test_what_is_no_small_png_is_refused_and_nothing_is_added(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    folder = FaceFolder(tmp_path / "faces")
    with pytest.raises(DataError):
        folder.add({"good.png": face(10), name: face(10, **changes)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a,b\n1,2\n", b"file\na.png\n"])
def test_another_table_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "faces.csv").write_bytes(content)
    with pytest.raises(InputError, match="choose another folder"):
        FaceFolder(tmp_path)
    assert (tmp_path / "faces.csv").read_bytes() == content
