from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from fer_edge.classification.crop import crop_face, crop_whole_image
from fer_edge.geometry import Box, CropSpec

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (120, 160), np.uint8)


def test_copies_a_box_of_the_output_size() -> None:
    assert (crop_face(IMAGE, Box(30, 20, 48, 48), 48, 48) == IMAGE[20:68, 30:78]).all()
    face = IMAGE[:48, :48]
    assert (crop_whole_image(face, 48, 48) == face).all()


def test_expands_an_oblong_box_to_a_square() -> None:
    assert (crop_face(IMAGE, Box(40, 30, 20, 40), 40, 40) == IMAGE[30:70, 30:70]).all()


def test_crop_spec_scales_about_the_centre_and_shifts_down() -> None:
    crop_spec = CropSpec(scale=1.5, shift=0.1)
    assert (crop_face(IMAGE, Box(60, 50, 40, 40), 60, 60, crop_spec) == IMAGE[44:104, 50:110]).all()


def test_repeats_edge_pixels_outside_the_image() -> None:
    crop = crop_face(IMAGE, Box(-10, -10, 40, 40), 40, 40)
    assert (crop[10:, 10:] == IMAGE[:30, :30]).all()
    assert (crop[:10, 10:] == IMAGE[0, :30]).all()
    assert (crop[:10, :10] == IMAGE[0, 0]).all()


@pytest.mark.parametrize("box", [Box(-500, -500, 30, 30), Box(900, 900, 30, 30), Box(10, 10, 0, 0), Box(0, 0, 9999, 1)])
@pytest.mark.parametrize("roll", [0.0, 0.5])
def test_accepts_any_box(box: Box, roll: float) -> None:
    crop = crop_face(IMAGE, box, 48, 40, roll=roll)
    assert crop.shape == (48, 40)
    assert crop.dtype == np.uint8


def test_does_not_pad_a_thin_strip_to_a_huge_square() -> None:
    sliver = np.tile(np.array([[10], [200]], np.uint8), (1, 2_000_000))
    crop = crop_whole_image(sliver, 48, 48)
    assert crop.shape == (48, 48)
    assert 10 <= crop.min() <= crop.max() <= 200


def test_keeps_proportions_of_a_face_partly_outside_the_image() -> None:
    light = np.full((200, 200), 50, np.uint8)
    light[:, 100:] = 250
    crop = crop_face(light, Box(-100, 0, 400, 400), 40, 40)
    assert (crop[:, :20] == 50).all()
    assert (crop[:, 20:] == 250).all()


def test_averages_pixels_when_shrinking() -> None:
    checks = np.zeros((96, 96), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = 200
    assert np.unique(crop_whole_image(checks, 48, 48)).tolist() == [100]


@pytest.mark.parametrize("degrees", [-50, -15, 15, 50])
@pytest.mark.parametrize("side", [48, 130, 400])
def test_rotates_a_rolled_face_upright(degrees: float, side: int) -> None:
    # Its own generator makes the test independent of the others.
    face = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (side, side), np.uint8), (0, 0), side / 12)
    face = ((face - face.min()) * (255.0 / np.ptp(face))).astype(np.uint8)
    upright_image = np.full((600, 700), 128, np.uint8)
    upright_image[60 : 60 + side, 80 : 80 + side] = face
    # OpenCV's angles are counter-clockwise, and its coordinates refer to the centres of pixels.
    middle = (80 + side / 2 - 0.5, 60 + side / 2 - 0.5)
    image = np.asarray(
        cv2.warpAffine(upright_image, cv2.getRotationMatrix2D(middle, -degrees, 1), (700, 600)), np.uint8
    )
    box, inner = Box(80, 60, side, side), CropSpec(scale=0.6)
    upright = crop_face(upright_image, box, 48, 48, inner).astype(float)
    turned = crop_face(image, box, 48, 48, inner, roll=math.radians(degrees)).astype(float)
    assert np.abs(upright - turned).mean() < 5
    assert np.abs(upright - crop_face(image, box, 48, 48, inner)).mean() > 8
