from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.refiner import decode_squares
from fer_edge.errors import ModelError, RuntimeMismatchError
from fer_edge.modelcard.archive import REFINER_NAME, model_bytes, refiner_bytes, with_card, with_refiner
from fer_edge.modelcard.reader import read_any_card, read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard, RefinerCard

from .boxes import check_refuses_wrong_images, check_within
from .test_network import SQUARES, boxes, dark

if TYPE_CHECKING:
    from pathlib import Path

# SQUARES with the second stage of tests/convert/face_networks.py, which finds the centre of a square.
REFINED = SQUARES.with_name("refined-squares.tflite")


def changed(path: Path, *, refiner: bytes | None = None, **changes: object) -> Path:
    """Write the detector with another second stage or a changed card."""
    card = read_card(REFINED, DetectorCard)
    assert card.refiner
    if refiner is not None:
        changes["flatbuffer_sha256"] = ""
    card = msgspec.structs.replace(card, refiner=msgspec.structs.replace(card.refiner, **changes))
    path.write_bytes(with_refiner(model_bytes(REFINED), card, refiner or refiner_bytes(REFINED)))
    return path


def test_finds_faces_at_subpixel_precision() -> None:
    gray = dark(64, 96, (9, 16), (64, 33))
    assert boxes(NetworkDetector(SQUARES, min_face=1).detect(gray)) == [[8, 16, 8, 8], [64, 32, 8, 8]]
    faces = sorted(NetworkDetector(REFINED, min_face=1).detect(gray))
    for face, (x, y) in zip(faces, ((9, 16), (64, 33)), strict=True):
        assert np.allclose(face.box, (x, y, 8, 8), atol=0.4)
        assert face.landmarks
        # Landmarks lie at -0.1 to 0.1 of the input's side, which is twice the face's, around the centre.
        assert face.landmarks.left_eye.x == pytest.approx(x + 4 - 1.6, abs=0.5)
        assert face.landmarks.mouth_right.y == pytest.approx(y + 4 + 1.6, abs=0.5)


def test_score_is_the_mean_of_both_odds() -> None:
    gray = dark(64, 96, (8, 16))
    seconds = []
    for _ in range(2):
        (first,) = NetworkDetector(SQUARES, min_face=1, min_score=0.2).detect(gray)
        (face,) = NetworkDetector(REFINED, min_face=1, min_score=0.2).detect(gray)
        odds = (face.score / (1 - face.score)) ** 2 / (first.score / (1 - first.score))
        seconds.append(odds / (1 + odds))
        gray[18:22, 10:14] = 0  # dims a quarter of the face for the first stage and its middle for the second
    assert seconds == pytest.approx([1, 0.5], abs=0.15)


def test_uses_the_images_full_resolution() -> None:
    """The second stage reads the original image, not the reduced one of the first stage."""
    large = cv2.resize(dark(64, 96, (9, 16)), None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    gray = np.asarray(large, np.uint8)
    (face,) = NetworkDetector(REFINED, min_face=64).detect(gray)
    assert np.allclose(face.box, (72, 128, 64, 64), atol=3)


def test_accepts_any_image_and_returns_boxes_inside_it() -> None:
    rng = np.random.default_rng(0)
    detector = NetworkDetector(REFINED, min_face=1, min_score=0.01)
    for rows, columns in ((1, 1), (1, 40), (7, 3), (33, 31), (64, 96), (2, 500)):
        for gray in (
            rng.integers(0, 256, (rows, columns)).astype(np.uint8),
            np.full((rows, columns), 255, np.uint8),
        ):
            check_within(detector.detect(gray), gray)
    check_refuses_wrong_images(NetworkDetector(REFINED))


def test_decodes_outputs_to_pixels_of_the_image() -> None:
    outputs = np.array([[0.25, 0.1, -0.1, np.log(0.5), np.log(0.25), *np.arange(10) / 10]], np.float32)
    cells = decode_squares(np.array([[100, 200, 40]], np.float32), outputs, np.array([0.64], np.float32))
    # The odds are 16 to 9 and 1 to 3.
    odds = np.sqrt(16 / 9 / 3)
    assert cells.scores == pytest.approx([odds / (1 + odds)])
    assert cells.boxes[0] == pytest.approx([124 - 10, 216 - 5, 20, 10])
    assert cells.landmarks[0, 0] == pytest.approx([120, 224])
    assert cells.landmarks[0, 4] == pytest.approx([120 + 32, 220 + 36])


def test_self_test_checks_both_stages(tmp_path: Path) -> None:
    assert NetworkDetector(REFINED).self_test() == 0
    card = read_card(REFINED, DetectorCard).refiner
    assert card
    assert card.self_test
    rows = [tuple(value + 60 for value in row) for row in card.self_test.outputs]
    other = msgspec.structs.replace(card.self_test, outputs=tuple(rows))
    with pytest.raises(RuntimeMismatchError, match="up to 60 steps"):
        NetworkDetector(changed(tmp_path / "other.tflite", self_test=other)).self_test()


def test_rejects_damaged_second_stage(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="damaged, the content does not match its card"):
        NetworkDetector(changed(tmp_path / "sha.tflite", flatbuffer_sha256="0" * 64))
    with pytest.raises(ModelError, match=r"second stage takes .* not \(1, 48, 48, 1\)"):
        NetworkDetector(changed(tmp_path / "side.tflite", side=48))
    with pytest.raises(ModelError, match="second stage takes"):
        NetworkDetector(changed(tmp_path / "first.tflite", refiner=model_bytes(SQUARES)))
    without = tmp_path / "without.tflite"
    without.write_bytes(with_card(model_bytes(REFINED), read_card(REFINED, DetectorCard)))
    with pytest.raises(ModelError, match=f"{REFINER_NAME} is missing from the file or damaged"):
        NetworkDetector(without)


def test_reads_card_of_second_stage(tmp_path: Path) -> None:
    card = read_card(REFINED, DetectorCard)
    assert card.refiner
    path = tmp_path / "second.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    path.write_bytes(with_card(path.read_bytes(), card.refiner))
    assert read_any_card(path) == read_card(path, RefinerCard) == card.refiner
    with pytest.raises(ModelError, match="the second stage of a face detector; give a classifier here"):
        read_card(path, ClassifierCard)
    with pytest.raises(ModelError, match="the second stage of a face detector; give a face detector here"):
        read_card(path, DetectorCard)
    with pytest.raises(ModelError, match="a face detector; give the model that `fer-edge train-refiner` made"):
        read_card(REFINED, RefinerCard)
