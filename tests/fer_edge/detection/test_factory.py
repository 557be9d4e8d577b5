"""Test the detectors: the shipped network and YuNet."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.detection.factory import detector_file, make_detector
from fer_edge.detection.network import NetworkDetector
from fer_edge.detection.yunet import YuNetDetector
from fer_edge.errors import InputError, ModelError
from fer_edge.model_zoo import DEFAULT_DETECTOR

from . import onnx_squares
from .boxes import check_refuses_wrong_images, check_within

if TYPE_CHECKING:
    from fer_edge.detection.base import TrackingDetector

BOX = 0.92  # gives boxes of 20 pixels
SHAPES = [(1, 1), (1, 700), (700, 1), (2, 3), (7, 5), (31, 33), (97, 203), (3000, 4001)]


@pytest.fixture(scope="module")
def onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "squares.onnx"
    onnx_squares.write_network(path, BOX)
    return path


def test_default_is_the_shipped_network() -> None:
    detector = make_detector()
    assert isinstance(detector, NetworkDetector)
    assert detector.path == DEFAULT_DETECTOR == detector_file("network", Path("faces"))
    assert DEFAULT_DETECTOR.stat().st_size <= 300_000
    test = detector.card.self_test
    assert test is not None
    assert detector.self_test() is not None
    assert len(set(itertools.chain(*test.outputs))) > 20, "images that all look alike to it would show little"


def test_finds_faces_in_images_of_any_size() -> None:
    number = next(number for number in range(demo.FRAMES) if len(demo.truth(number)) == 2)
    frame, truth = demo.frame(number), demo.truth(number)
    for factor in (0.5, 1.0, 1.7):
        faces = make_detector().detect(np.asarray(cv2.resize(frame, None, fx=factor, fy=factor), np.uint8))
        assert len(faces) == 2
        for true_face in truth:
            middle = true_face.box.x + true_face.box.width / 2
            distance = min(abs(face.box.x + face.box.width / 2 - middle * factor) for face in faces)
            assert distance < 0.2 * true_face.box.width * factor


def test_yunet_rejects_missing_and_wrong_files(onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="yunet needs --detector-model FILE"):
        make_detector("yunet")
    with pytest.raises(ModelError, match=r"none\.onnx: no such file; download face_detection_yunet"):
        make_detector("yunet", tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="not a YuNet network that OpenCV"):
        make_detector("yunet", DEFAULT_DETECTOR)
    assert isinstance(make_detector("yunet", onnx), YuNetDetector)


@pytest.mark.parametrize("factor", [1, 2, 5])
def test_yunet_returns_boxes_in_pixels_of_the_image(factor: int, onnx: Path) -> None:
    gray = np.full((240, 320), 60, np.uint8)
    gray[64:72, 96:104] = 255
    large = cv2.resize(gray, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    (face,) = YuNetDetector(onnx).detect(np.asarray(large, np.uint8))
    # The box of cell 12 in row 8.
    side = 8 * math.exp(BOX)
    left, top = (8 * (cell + BOX) - side / 2 for cell in (12, 8))
    assert face.box == pytest.approx([factor * value for value in (left, top, side, side)], rel=0.01)
    assert face.score == pytest.approx(1, abs=0.01)
    assert YuNetDetector(onnx, 30 * factor).detect(np.asarray(large, np.uint8)) == []


@pytest.mark.parametrize("box", [BOX, 200.0])
def test_yunet_accepts_any_image_and_returns_boxes_inside_it(box: float, tmp_path: Path) -> None:
    # The second value gives infinite boxes, as the real YuNet does for some images of a single row.
    onnx_squares.write_network(tmp_path / "squares.onnx", box)
    check(YuNetDetector(tmp_path / "squares.onnx"))


def test_shipped_network_accepts_any_image_and_returns_boxes_inside_it() -> None:
    check(make_detector())


def check(detector: TrackingDetector) -> None:
    rng = np.random.default_rng(5)
    for shape in SHAPES:
        noise = rng.integers(0, 256, shape).astype(np.uint8)
        for gray in (noise, np.full(shape, 255, np.uint8), noise.T):
            check_within(detector.detect(gray), gray)
    check_refuses_wrong_images(detector)
