from __future__ import annotations

import numpy as np
import pytest

from fer_edge import demo
from fer_edge.detection.factory import make_detector
from fer_edge.detection.roi import ROI_SCALE, ROI_SIDE, Region
from fer_edge.geometry import Box, Face, Landmarks, Point, intersection_over_union

GRAY = np.arange(480 * 640, dtype=np.uint32).reshape(480, 640).astype(np.uint8)


@pytest.mark.parametrize("x", [-30, 0, 200, 560, 605])
def test_region_keeps_its_size_at_edges(x: float) -> None:
    region = Region.around(GRAY, Box(x, 100, 60, 80))
    assert region is not None
    side = round(ROI_SCALE * 80)
    assert region.part.shape == (side, side)
    assert region.size == (ROI_SIDE, ROI_SIDE)
    assert (region.part == GRAY[region.y : region.y + side, region.x : region.x + side]).all()


def test_region_of_a_large_face_is_the_whole_image() -> None:
    region = Region.around(GRAY, Box(10, 10, 600, 460))
    assert region is not None
    assert region.part.shape == GRAY.shape
    assert max(region.size) <= ROI_SIDE


@pytest.mark.parametrize("box", [Box(-90, 10, 80, 80), Box(700, 10, 20, 20), Box(10, 900, 50, 50)])
def test_no_region_outside_the_image(box: Box) -> None:
    assert Region.around(GRAY, box) is None
    assert make_detector().detect_in_roi(GRAY, box) == []


def test_converts_faces_to_pixels_of_the_image() -> None:
    region = Region.around(GRAY, Box(300, 200, 50, 50))
    assert region is not None
    points = Landmarks(*(Point(n, n + 1) for n in range(5)))
    (face,) = region.to_image([Face(Box(1, 2, 3, 4), 0.5, points)])
    assert face.box == Box(region.x + 1, region.y + 2, 3, 4)
    assert face.landmarks is not None
    assert face.landmarks.nose == Point(region.x + 2, region.y + 3)


def test_shipped_detector_finds_moved_faces_in_region() -> None:
    detector = make_detector()
    for number in (40, 70):
        for face in detector.detect(demo.frame(number)):
            moved = face.box._replace(x=face.box.x + 0.3 * face.box.width)
            faces_in_roi = detector.detect_in_roi(demo.frame(number), moved)
            assert max(intersection_over_union(face.box, roi_face.box) for roi_face in faces_in_roi) > 0.6
