"""The quality of faces, and expressions that cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

import fer_edge
from fer_edge.geometry import Landmarks, Point
from fer_edge.quality import FaceQuality, estimate_yaw, measure_sharpness

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt


def blur(gray: npt.NDArray[np.uint8], sigma: float) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(gray, (0, 0), sigma), np.uint8)


def test_large_sharp_faces_are_reliable_and_blurred_ones_are_not(
    recognizer: fer_edge.Recognizer, gray: npt.NDArray[np.uint8]
) -> None:
    faces = recognizer(gray)
    assert len(faces) == 3
    for face in faces:
        assert face.reliable
        assert face.quality
        assert face.quality.size == pytest.approx(max(face.box.width, face.box.height), abs=0.1)
        assert abs(face.quality.roll or 0) < 20
        assert abs(face.quality.yaw or 0) < 40
    blurred = recognizer(blur(gray, 6))
    assert blurred
    assert not any(face.reliable for face in blurred)
    assert all(len(face.scores) == 7 for face in blurred)
    assert {face.shown_emotion for face in blurred} == {"unclear"}
    assert "unclear" in repr(blurred[0])


def test_small_faces_are_found_and_not_reliable(gray: npt.NDArray[np.uint8]) -> None:
    rows, columns = gray.shape
    small = np.asarray(cv2.resize(gray, (columns // 5, rows // 5), interpolation=cv2.INTER_AREA), np.uint8)
    found = fer_edge.load(min_face=12, min_score=0.3)(small)
    assert found
    for face in found:
        assert face.quality
        assert face.reliable == face.quality.suffices()
        assert face.quality.size >= 24 or not face.reliable


@pytest.mark.parametrize(
    ("quality", "suffices"),
    [
        (FaceQuality(24, 0, 40, 0.06), True),
        (FaceQuality(23.9, 0, 0, 1), False),
        (FaceQuality(90, 0, -40.1, 1), False),
        (FaceQuality(90, 80, 0, 1), True),  # the crop is rotated upright
        (FaceQuality(90, 0, 0, 0.059), False),
        (FaceQuality(48, None, None, 0.5), True),
    ],
)
def test_each_limit_alone_makes_a_face_unreliable(quality: FaceQuality, suffices: bool) -> None:  # noqa: FBT001
    assert quality.suffices() == suffices


def test_sharpness_falls_with_blur_and_not_with_light(gray: npt.NDArray[np.uint8]) -> None:
    gray = gray[::2, ::2]
    sharp = measure_sharpness(gray)
    assert measure_sharpness((gray // 2 + 60).astype(np.uint8)) == pytest.approx(sharp, rel=0.2)
    blurred = [measure_sharpness(blur(gray, sigma)) for sigma in (0.5, 1, 2, 4)]
    assert [sharp, *blurred] == sorted([sharp, *blurred], reverse=True)
    assert measure_sharpness(np.full((48, 48), 7, np.uint8)) == 0


def head(nose_x: float, *, tilt: float = 0.0) -> Landmarks:
    cos, sin = np.cos(tilt), np.sin(tilt)
    points = ((-20, -15), (20, -15), (nose_x, 5), (-14, 25), (14, 25))
    return Landmarks(*(Point(100 + x * cos - y * sin, 100 + x * sin + y * cos) for x, y in points))


def test_yaw_is_above_zero_towards_the_right_whatever_the_roll() -> None:
    yaw = estimate_yaw(head(10))
    assert yaw is not None
    assert 20 < yaw < 45
    assert estimate_yaw(head(-10)) == pytest.approx(-yaw)
    assert estimate_yaw(head(10, tilt=0.5)) is not None
    same = Point(1, 1)
    assert estimate_yaw(Landmarks(same, same, same, same, same)) is None


def test_tables_have_the_quality_and_keep_the_scores(tmp_path: Path, gray: npt.NDArray[np.uint8]) -> None:
    path = tmp_path / "blurred.png"
    cv2.imwrite(str(path), blur(gray, 6))
    rows = [row for row in fer_edge.tag(path) if row["emotion"]]
    assert rows
    for row in rows:
        assert row["reliable"] == 0
        assert row["score"] == row[f"score_{row['emotion']}"]
        assert row["size"] >= 24
        assert row["sharpness"] < 0.06
        assert {"roll", "yaw"} <= row.keys()
