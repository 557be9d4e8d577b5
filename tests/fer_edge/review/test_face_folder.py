from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.errors import DataError
from fer_edge.review.choices import assign_keys, emotion_problem
from fer_edge.review.face_folder import read_face_folder, read_image
from tests.fer_edge.review.folders import write_faces

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli, Sample


def test_table_predicts_and_the_model_predicts_the_rest(tmp_path: Path, sample: Sample) -> None:
    hashes = {name: sha256 for sha256, name in write_faces(tmp_path, sample, range(5)).items()}
    (tmp_path / "faces.csv").write_text(
        "file,sha256,time,node,model,emotion,score_Happy,score_contempt,reason,group\n"
        f"0000.png,{hashes['0000.png']},2026-11-30T12:00:00Z,hall,mine,contempt,0.25,0.75,rare,monday\n"
        f"0001.png,{hashes['0000.png']},,,,happy,1,0,,\n"  # of another image
        "0002.png,,,,,happy,nan,0,,\n"
        "../../etc/passwd,,,,,happy,1,0,,\n"
        "0003.png,,,\n"
        "0004.png,,,,,happy,0.9,,,\n"  # of a model without contempt
    )
    folder = read_face_folder(tmp_path, TFLiteClassifier)
    first, *others, last = folder.faces
    assert last.prediction.scores == {"happy": 0.9}
    assert (first.prediction.emotion, first.score, first.prediction.reason) == ("contempt", 0.75, "rare")
    assert first.group == "monday"
    assert first.prediction.time == "2026-11-30T12:00:00Z"
    assert all(face.prediction.emotion and len(face.prediction.scores) == 7 for face in others)
    assert folder.emotions[:2] == ("happy", "contempt")
    assert len(folder.emotions) == 8
    assert len(folder.skipped) == 3
    again = read_face_folder(tmp_path, TFLiteClassifier, predict_all=True)
    assert "contempt" not in again.emotions
    assert again.faces[0].prediction.scores.keys() == others[0].prediction.scores.keys()
    assert again.faces[0].group == "monday"


def test_faces_that_tag_selects_are_read_as_it_wrote_them(tmp_path: Path, sample: Sample, cli: Cli) -> None:
    write_faces(tmp_path / "images", sample, range(40))
    cli("tag", tmp_path / "images", "--face", "--out", tmp_path / "t.csv", "--collect", tmp_path / "faces")
    folder = read_face_folder(tmp_path / "faces")
    assert folder.skipped == folder.left_out == ()
    assert len(folder.faces) > 3
    assert all(len(face.prediction.scores) == 7 and face.prediction.reason and face.group for face in folder.faces)


def test_hostile_files_cost_one_line_each(tmp_path: Path, sample: Sample) -> None:
    faces = tmp_path / "faces"
    write_faces(faces, sample, range(3))
    (tmp_path / "private.png").write_bytes((faces / "0000.png").read_bytes() + b"private")
    (faces / "link.png").symlink_to(tmp_path / "private.png")
    (faces / "loop").symlink_to(faces)
    head = struct.pack(">II5B", 60_000, 60_000, 8, 0, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    (faces / "huge.png").write_bytes(huge)
    (faces / "text.png").write_text("no image")
    (faces / "large.png").write_bytes(bytes((16 << 20) + 1))
    (faces / "<img src=x onerror=alert(1)>.png").write_bytes(huge)
    (faces / "notes.txt").write_text("notes")
    (faces / "copy.png").write_bytes((faces / "0001.png").read_bytes())
    (faces / "ann").mkdir()
    cv2.imwrite(str(faces / "ann/one.jpg"), sample.faces[10])
    folder = read_face_folder(faces)
    assert [face.name for face in folder.faces] == ["0000.png", "0001.png", "0002.png", "ann/one.jpg"]
    assert folder.faces[-1].group == "ann"
    assert len(folder.skipped) == 4
    assert all("\n" not in line for line in folder.skipped)
    assert "2 links" in folder.left_out
    assert "1 copy of the same file" in folder.left_out
    assert len(folder.thumbnails) == 4


def test_image_that_has_changed_is_not_given(tmp_path: Path, sample: Sample) -> None:
    write_faces(tmp_path, sample, range(1))
    folder = read_face_folder(tmp_path)
    (tmp_path / "0000.png").write_bytes(b"another")
    with pytest.raises(DataError, match="changed"):
        read_image(tmp_path, folder.faces[0])


def test_what_cannot_be_read_ends_in_one_line(tmp_path: Path, sample: Sample) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_face_folder(tmp_path / "nothing")
    with pytest.raises(DataError, match="no images"):
        read_face_folder(tmp_path)
    write_faces(tmp_path, sample, range(1))
    for text, message in (
        ("path,emotion\n", "no column file"),
        ("file,score_../../x\n", "name of a folder"),
        ('file\n"' + "x" * 2_000_000, "row of more than"),
    ):
        (tmp_path / "faces.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            read_face_folder(tmp_path)


def test_each_answer_has_a_key_of_its_own() -> None:
    keys = assign_keys(["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"])
    assert keys == {
        "angry": "a",
        "disgust": "d",
        "fear": "f",
        "happy": "h",
        "sad": "s",
        "surprise": "u",
        "neutral": "n",
        "contempt": "c",
        "cannot tell": "t",
        "not a face": "x",
    }
    many = assign_keys([f"x{number}" for number in range(20)])
    used = [key for key in many.values() if key]
    assert len(used) == len(set(used)) == 12


@pytest.mark.parametrize(
    "label", ["", ".", "..", "a/b", "a\\b", ".hidden", "train", "not a face", "a\nb", " a", "x" * 61]
)
def test_labels_that_cannot_be_folders(label: str) -> None:
    assert emotion_problem(label)
