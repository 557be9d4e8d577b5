from __future__ import annotations

import numpy as np
import pytest

from fer_edge.datasets.faces import FaceImage
from fer_edge.detection.metrics import ImageDetections, Matches, match


def image(faces: list[list[float]], ignored: list[list[float]] | None = None) -> FaceImage:
    boxes = np.array(faces, np.float32).reshape(-1, 4)
    return FaceImage(
        name="x.png",
        boxes=boxes,
        scores=np.ones(len(boxes), np.float32),
        landmarks=np.zeros((len(boxes), 5, 2), np.float32),
        ignored=np.array(ignored or [], np.float32).reshape(-1, 4),
    )


def detections(*rows: tuple[float, list[float]]) -> ImageDetections:
    return ImageDetections(
        np.array([box for _, box in rows], np.float32).reshape(-1, 4), np.array([score for score, _ in rows])
    )


def test_second_box_on_a_face_is_a_false_positive() -> None:
    faces = image([[0, 0, 10, 10], [100, 0, 30, 20]])
    matches = match([detections((0.5, [1, 0, 10, 10]), (0.9, [0, 0, 10, 10]), (0.7, [200, 200, 5, 5]))], [faces])
    assert matches.face_scores.tolist() == [0.9, -np.inf]
    assert matches.sides.tolist() == [10, 30]
    assert sorted(matches.false_positives.tolist()) == [0.5, 0.7]


def test_boxes_in_ignored_regions_do_not_count() -> None:
    annotations = image([[0, 0, 10, 10]], [[0, 0, 50, 50]])
    matches = match([detections((0.9, [0, 0, 10, 10]), (0.8, [20, 20, 10, 10]), (0.7, [45, 0, 20, 20]))], [annotations])
    assert matches.face_scores.tolist() == [0.9]
    assert matches.false_positives.tolist() == [pytest.approx(0.7)]


def test_average_precision_is_the_area_under_the_curve() -> None:
    # By falling score: correct, wrong, correct; one face is never found.
    matches = Matches(np.array([0.9, 0.5, -np.inf]), np.array([30.0, 30, 30]), np.array([0.7]), 2)
    assert matches.average_precision() == pytest.approx((1 + 2 / 3) / 3)
    equal = Matches(np.array([0.5]), np.array([30.0]), np.array([0.5]), 1)
    assert equal.average_precision() == 0.5
    assert np.isnan(matches.average_precision(min_side=31))


def test_recall_by_size_and_at_false_positives_per_image() -> None:
    matches = Matches(np.array([0.9, 0.6, 0.3]), np.array([10.0, 20, 40]), np.array([0.8, 0.5, 0.4, 0.1]), 2)
    assert matches.recall(0.5) == pytest.approx(2 / 3)
    assert matches.recall(0.5, min_side=20) == 0.5
    assert matches.recall(0.5, max_side=20) == 1.0
    assert np.isnan(matches.recall(0.5, min_side=50))
    for allowed in (0.0, 0.5, 1.0, 1.5):
        threshold = matches.threshold_at(allowed)
        assert matches.false_positives_per_image(threshold) == allowed
        assert matches.false_positives_per_image(np.nextafter(threshold, 0)) > allowed
    assert matches.threshold_at(2.0) == 0.0


def test_counts_images_without_faces_or_detections() -> None:
    matches = match([detections(), detections((0.5, [0, 0, 9, 9]))], [image([[0, 0, 10, 10]]), image([])])
    assert matches.face_scores.tolist() == [-np.inf]
    assert matches.false_positives_per_image(0.5) == 0.5
    assert matches.average_precision() == 0.0
