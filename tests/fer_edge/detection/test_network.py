from __future__ import annotations

import shutil
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
import pytest

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.network import NetworkDetector
from fer_edge.errors import ModelError, RuntimeMismatchError
from fer_edge.model_zoo import DEFAULT_DETECTOR, DEFAULT_MODEL
from fer_edge.modelcard.archive import model_bytes, with_card
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard, PixelSpec, ScoreCalibration

from .boxes import check_refuses_wrong_images, check_within

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.geometry import Face

# A detector that finds bright squares of eight pixels; tests/convert/face_networks.py made it.
SQUARES = Path(__file__).parents[2] / "data" / "squares.tflite"


def dark(rows: int, columns: int, *squares: tuple[int, int], side: int = 8) -> npt.NDArray[np.uint8]:
    gray = np.random.default_rng(rows * columns).integers(0, 90, (rows, columns)).astype(np.uint8)
    for x, y in squares:
        gray[y : y + side, x : x + side] = 250
    return gray


def boxes(faces: list[Face]) -> list[list[int]]:
    return sorted([round(value) for value in face.box] for face in faces)


@pytest.fixture(scope="module")
def detector() -> NetworkDetector:
    return NetworkDetector(SQUARES, min_face=1)


def with_changed_card(path: Path, **changes: object) -> Path:
    card = msgspec.structs.replace(read_card(SQUARES, DetectorCard), **changes)
    path.write_bytes(with_card(model_bytes(SQUARES), card))
    return path


def test_finds_faces_and_landmarks(detector: NetworkDetector) -> None:
    faces = detector.detect(dark(64, 96, (8, 16), (88, 56)))
    assert boxes(faces) == [[8, 16, 8, 8], [88, 56, 8, 8]]
    assert all(0.9 < face.score <= 1 for face in faces)
    first = min(faces).landmarks
    assert first is not None
    # Landmarks lie at -0.5 to 0.5 strides of 8 pixels around the centre (12, 20).
    assert first.left_eye == pytest.approx((8, 16.9), abs=0.6)
    assert first.mouth_right == pytest.approx((15.1, 24), abs=0.6)


@pytest.mark.parametrize(("rows", "columns"), [(480, 640), (481, 641), (720, 1280), (240, 320), (300, 401)])
def test_shrinks_large_images_and_returns_boxes_in_their_pixels(rows: int, columns: int) -> None:
    # A sixteenth of the longer side is reduced to the eight pixels that the network finds. Squares lie on its cells.
    side = columns // 16
    x, y = 3 * side, 2 * side
    (face,) = NetworkDetector(SQUARES).detect(dark(rows, columns, (x, y), side=side))
    assert face.box == pytest.approx((x, y, side, side), abs=0.15 * side)


def test_min_face_limits_what_is_found(detector: NetworkDetector) -> None:
    gray = dark(128, 128, (32, 32), side=16)
    (face,) = NetworkDetector(SQUARES, min_face=16).detect(gray)
    assert face.box == pytest.approx((32, 32, 16, 16), abs=1)
    assert len(detector.detect(gray)) == 4
    assert not NetworkDetector(SQUARES, min_face=32).detect(gray)


def test_search_around_a_face_costs_less_the_smaller_the_smallest_face(detector: NetworkDetector) -> None:
    costs = [NetworkDetector(detector.path, min_face).roi_cost((480, 640)) for min_face in (16, 32, 64, 128)]
    assert costs == sorted(costs)
    assert 0 < costs[0] < 0.5 < costs[-1]
    assert NetworkDetector(detector.path, 32).roi_cost((960, 1280)) < costs[1]


def test_images_of_different_sizes_do_not_affect_each_other(detector: NetworkDetector) -> None:
    # More sizes than the cache holds. Two sizes share an input, which must be cleared after the larger one.
    sizes = [(64, 96), (60, 90), (32, 32), (64, 96), (96, 64), (128, 64), (160, 64), (60, 90), (64, 96)]
    for rows, columns in sizes:
        assert boxes(detector.detect(dark(rows, columns, (8, 16)))) == [[8, 16, 8, 8]]
    full = np.full((64, 96), 255, np.uint8)
    assert len(detector.detect(full)) > 50
    assert detector.detect(dark(60, 90)) == []


def test_accepts_any_image_and_returns_boxes_inside_it(detector: NetworkDetector) -> None:
    rng = np.random.default_rng(5)
    shapes = [(1, 1), (1, 700), (700, 1), (2, 3), (7, 5), (31, 33), (33, 31), (97, 203), (1080, 1920), (3000, 4001)]
    for shape in shapes:
        noise = rng.integers(0, 256, shape).astype(np.uint8)
        for gray in (noise, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), noise.T, noise[::-1, ::-1]):
            check_within((detector if gray.size < 1e5 else NetworkDetector(SQUARES)).detect(gray), gray)
    check_refuses_wrong_images(detector)


def test_allocates_little_memory_per_frame() -> None:
    detector, frames = NetworkDetector(SQUARES), [dark(480, 640, (120, 80), side=side) for side in (40, 0)]
    for frame in frames:
        detector.detect(frame)
    tracemalloc.start()
    try:
        for frame in frames * 5:
            detector.detect(frame)
        assert tracemalloc.get_traced_memory()[1] < 30_000
    finally:
        tracemalloc.stop()


def test_clips_boxes_to_the_image(tmp_path: Path) -> None:
    # The network finds eight pixels per cell also in a wider square, and the image ends within the last cell.
    gray = np.full((20, 21), 250, np.uint8)
    for face in NetworkDetector(with_changed_card(tmp_path / "one.tflite", threshold=0.01)).detect(gray):
        assert face.box.x + face.box.width <= 21
        assert face.box.y + face.box.height <= 20


def test_lowest_score_replaces_the_cards(tmp_path: Path) -> None:
    gray = dark(64, 64, (8, 8))
    cv2.rectangle(gray, (40, 40), (47, 47), 200, cv2.FILLED)
    weak = min(face.score for face in NetworkDetector(SQUARES, min_score=0.05).detect(gray))
    strict = with_changed_card(tmp_path / "strict.tflite", threshold=min(weak + 0.05, 1.0))
    assert boxes(NetworkDetector(strict).detect(gray)) == [[8, 8, 8, 8]]
    assert len(NetworkDetector(strict, min_score=weak).detect(gray)) == 2


def test_calibrated_scores_keep_the_boxes_and_say_precision(tmp_path: Path) -> None:
    gray = dark(64, 64, (8, 8))
    cv2.rectangle(gray, (40, 40), (47, 47), 200, cv2.FILLED)
    plain = NetworkDetector(SQUARES, min_score=0.05).detect(gray)
    calibration = ScoreCalibration(slope=2.0, intercept=-1.0)
    path = with_changed_card(tmp_path / "calibrated.tflite", calibration=calibration, threshold=0.05)
    detector = NetworkDetector(path)
    found = detector.detect(gray)
    assert [face.box for face in found] == [face.box for face in plain]
    assert all(face.score == calibration.precision_at(raw.score) for face, raw in zip(found, plain, strict=True))
    near = detector.detect_in_roi(gray, plain[0].box)
    raw_near = NetworkDetector(SQUARES, min_score=0.05).detect_in_roi(gray, plain[0].box)
    assert [face.score for face in near] == [calibration.precision_at(face.score) for face in raw_near]
    # The lowest score is a calibrated one, and the threshold of the card is not.
    between = sum(face.score for face in found) / 2
    assert min(face.score for face in found) < between
    assert boxes(NetworkDetector(path, min_score=between).detect(gray)) == [[8, 8, 8, 8]]


def test_calibration_and_its_inverse_agree_at_every_score() -> None:
    for slope, intercept in ((2.36, -0.26), (0.01, 100), (100, -100)):
        calibration = ScoreCalibration(slope=slope, intercept=intercept)
        precisions = [calibration.precision_at(score / 100) for score in range(101)]
        assert precisions == sorted(precisions)
        assert 0 <= precisions[0] <= precisions[-1] <= 1
        assert 0 <= calibration.score_at(0) <= calibration.score_at(0.5) <= calibration.score_at(1) <= 1
    for score in (0.02, 0.3, 0.6, 0.97):
        calibration = ScoreCalibration(slope=2.36, intercept=-0.26)
        assert calibration.score_at(calibration.precision_at(score)) == pytest.approx(score)


def test_shipped_detector_finds_the_same_with_its_threshold_as_lowest_score(gray: npt.NDArray[np.uint8]) -> None:
    card = read_card(DEFAULT_DETECTOR, DetectorCard)
    assert card.calibration
    usual = NetworkDetector(DEFAULT_DETECTOR, min_face=20).detect(gray)
    assert usual == NetworkDetector(DEFAULT_DETECTOR, min_face=20, min_score=card.min_score - 1e-9).detect(gray)
    assert all(face.score >= card.min_score for face in usual)
    assert usual
    best = max(face.score for face in usual)
    strict = NetworkDetector(DEFAULT_DETECTOR, min_face=20, min_score=best - 1e-9).detect(gray)
    assert [face.score for face in strict] == [best]


def test_self_test_detects_different_outputs(tmp_path: Path) -> None:
    assert NetworkDetector(SQUARES).self_test() == 0
    test = read_card(SQUARES, DetectorCard).self_test
    assert test is not None
    none = with_changed_card(tmp_path / "none.tflite", self_test=None)
    assert NetworkDetector(none).self_test() is None
    other = msgspec.structs.replace(test, outputs=tuple(tuple(-value for value in row) for row in test.outputs))
    with pytest.raises(RuntimeMismatchError, match="on this machine differs by up to"):
        NetworkDetector(with_changed_card(tmp_path / "other.tflite", self_test=other)).self_test()


def test_rejects_files_that_do_not_match_their_card(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="an expression classifier; give a face detector here"):
        NetworkDetector(DEFAULT_MODEL)
    with pytest.raises(ModelError, match=r"four.tflite: it gives .*, but a face detector with strides 8, 16, 64 gives"):
        NetworkDetector(with_changed_card(tmp_path / "four.tflite", strides=(8, 16, 64)))
    lying = tmp_path / "lying.tflite"
    card = DetectorCard(name="x", input=PixelSpec(scale=1 / 128, offset=-1.0))
    lying.write_bytes(with_card(model_bytes(DEFAULT_MODEL), card))
    with pytest.raises(ModelError, match=r"lying.tflite"):
        NetworkDetector(lying)
    damaged = tmp_path / "damaged.tflite"
    shutil.copy(SQUARES, damaged)
    with damaged.open("r+b") as file:
        file.seek(3000)
        file.write(bytes(200))
    with pytest.raises(ModelError, match="damaged, the content does not match its card"):
        NetworkDetector(damaged)


def test_runs_while_a_profiler_reads_the_stacks_of_threads(detector: NetworkDetector) -> None:
    classifier = TFLiteClassifier()
    gray = dark(64, 96, (8, 16), (88, 56))
    finished = threading.Event()

    def profile() -> None:
        while not finished.is_set():
            stacks = sys._current_frames()
            time.sleep(0.002)
            del stacks
            time.sleep(0.002)

    profiler = threading.Thread(target=profile)
    profiler.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert len(detector.detect(gray)) == 2
            classifier.classify(np.zeros((2, 48, 48), np.uint8))
    finally:
        finished.set()
        profiler.join()
