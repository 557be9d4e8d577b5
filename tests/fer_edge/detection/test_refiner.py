from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.refiner import decode_squares
from fer_edge.detection.resampling import PADDING, crop_square, expand_to_square
from fer_edge.errors import ModelError, RuntimeMismatchError
from fer_edge.modelcard.archive import REFINER_NAME, model_bytes, refiner_bytes, with_card, with_refiner
from fer_edge.modelcard.reader import read_any_card, read_card
from fer_edge.modelcard.schema import ClassifierCard, DetectorCard, RefinerCard

from .boxes import check_refuses_wrong_images, check_within
from .test_network import SQUARES, boxes, dark

if TYPE_CHECKING:
    from pathlib import Path

# That detector with the second stage of tests/convert/face_networks.py, which finds where a square's centre is.
REFINED = SQUARES.with_name("refined-squares.tflite")


def changed(path: Path, *, refiner: bytes | None = None, **changes: object) -> Path:
    """The detector with another second stage, or with other words on its card."""
    card = read_card(REFINED, DetectorCard)
    assert card.refiner
    if refiner is not None:
        changes["flatbuffer_sha256"] = ""
    card = msgspec.structs.replace(card, refiner=msgspec.structs.replace(card.refiner, **changes))
    path.write_bytes(with_refiner(model_bytes(REFINED), card, refiner or refiner_bytes(REFINED)))
    return path


def test_the_second_stage_says_where_a_face_is_to_a_fraction_of_a_pixel() -> None:
    gray = dark(64, 96, (9, 16), (64, 33))
    assert boxes(NetworkDetector(SQUARES, min_face=1).detect(gray)) == [[8, 16, 8, 8], [64, 32, 8, 8]]
    faces = sorted(NetworkDetector(REFINED, min_face=1).detect(gray))
    for face, (x, y) in zip(faces, ((9, 16), (64, 33)), strict=True):
        assert np.allclose(face.box, (x, y, 8, 8), atol=0.4)
        assert face.landmarks
        # Of a square twice as large as the face: from -0.1 to 0.1 of it around the centre.
        assert face.landmarks.left_eye.x == pytest.approx(x + 4 - 1.6, abs=0.5)
        assert face.landmarks.mouth_right.y == pytest.approx(y + 4 + 1.6, abs=0.5)


def test_a_face_counts_by_the_mean_of_both_odds() -> None:
    gray = dark(64, 96, (8, 16))
    seconds = []
    for _ in range(2):
        (first,) = NetworkDetector(SQUARES, min_face=1, threshold=0.2).detect(gray)
        (face,) = NetworkDetector(REFINED, min_face=1, threshold=0.2).detect(gray)
        odds = (face.score / (1 - face.score)) ** 2 / (first.score / (1 - first.score))
        seconds.append(odds / (1 + odds))
        gray[18:22, 10:14] = 0  # of which the first stage sees a quarter of a face, and the second its middle
    assert seconds == pytest.approx([1, 0.5], abs=0.15)


def test_the_second_stage_sees_the_images_own_pixels() -> None:
    """Not those of the reduced one, in which the first stage looks."""
    large = cv2.resize(dark(64, 96, (9, 16)), None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    gray = np.asarray(large, np.uint8)
    (face,) = NetworkDetector(REFINED, min_face=64).detect(gray)
    assert np.allclose(face.box, (72, 128, 64, 64), atol=3)


def test_no_image_makes_it_fail_and_every_box_lies_within() -> None:
    rng = np.random.default_rng(0)
    detector = NetworkDetector(REFINED, min_face=1, threshold=0.01)
    for rows, columns in ((1, 1), (1, 40), (7, 3), (33, 31), (64, 96), (2, 500)):
        for gray in (
            rng.integers(0, 256, (rows, columns)).astype(np.uint8),
            np.full((rows, columns), 255, np.uint8),
        ):
            check_within(detector.detect(gray), gray)
    check_refuses_wrong_images(NetworkDetector(REFINED))


@pytest.mark.parametrize("square", [(10.3, 20.6, 8.0), (30.0, 40.0, 31.0), (50.2, 20.7, 75.5), (4.0, 4.0, 180.0)])
def test_a_square_is_cut_to_a_fraction_of_a_pixel(square: tuple[float, float, float]) -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    left, top, length = square
    for gray, edge in ((ramp, left), (np.ascontiguousarray(ramp.T), top)):
        found = crop_square(gray, square, 16)
        # The middle of each of 16 pixels, as one of the image, whose value is that of its own middle.
        wanted = edge + (np.arange(16) + 0.5) * length / 16 - 0.5
        assert np.abs(found - (wanted if gray is ramp else wanted[:, None])).max() < 2


def test_what_lies_past_an_image_is_grey() -> None:
    gray = np.full((20, 30), 200, np.uint8)
    found = crop_square(gray, (-10.0, -10.0, 20.0), 20)
    assert (found[:9] == PADDING).all()
    assert (found[:, :9] == PADDING).all()
    assert (found[11:, 11:] == 200).all()
    for square in ((-500.0, 0.0, 3.0), (1e9, 1e9, 2.0), (-1e20, -1e20, 2e20), (5.0, 5.0, 1.0)):
        assert crop_square(gray, square, 20).shape == (20, 20)
    assert expand_to_square((3.0, 3.0, 0.0, 0.0), 1.6)[2] == 1


def test_the_places_that_a_network_gives_are_those_in_the_image() -> None:
    given = np.array([[0.25, 0.1, -0.1, np.log(0.5), np.log(0.25), *np.arange(10) / 10]], np.float32)
    cells = decode_squares(np.array([[100, 200, 40]], np.float32), given, np.array([0.64], np.float32))
    # Odds of 16 to 9 and of 1 to 3.
    odds = np.sqrt(16 / 9 / 3)
    assert cells.scores == pytest.approx([odds / (1 + odds)])
    assert cells.boxes[0] == pytest.approx([124 - 10, 216 - 5, 20, 10])
    assert cells.landmarks[0, 0] == pytest.approx([120, 224])
    assert cells.landmarks[0, 4] == pytest.approx([120 + 32, 220 + 36])


def test_the_self_test_is_of_both_stages(tmp_path: Path) -> None:
    assert NetworkDetector(REFINED).self_test() == 0
    card = read_card(REFINED, DetectorCard).refiner
    assert card
    assert card.self_test
    rows = [tuple(value + 60 for value in row) for row in card.self_test.outputs]
    other = msgspec.structs.replace(card.self_test, outputs=tuple(rows))
    with pytest.raises(RuntimeMismatchError, match="up to 60 steps"):
        NetworkDetector(changed(tmp_path / "other.tflite", self_test=other)).self_test()


def test_a_damaged_second_stage_is_told(tmp_path: Path) -> None:
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


def test_its_card_says_what_it_is(tmp_path: Path) -> None:
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
