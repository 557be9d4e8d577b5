from __future__ import annotations

import numpy as np
import pytest

from fer_edge.detection.resampling import PADDING, crop_square, expand_to_square


@pytest.mark.parametrize("square", [(10.3, 20.6, 8.0), (30.0, 40.0, 31.0), (50.2, 20.7, 75.5), (4.0, 4.0, 180.0)])
def test_crops_squares_at_subpixel_precision(square: tuple[float, float, float]) -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
    left, top, length = square
    for gray, edge in ((ramp, left), (np.ascontiguousarray(ramp.T), top)):
        crop = crop_square(gray, square, 16)
        # The centres of the 16 output pixels in coordinates of the image, whose values equal the coordinates.
        expected = edge + (np.arange(16) + 0.5) * length / 16 - 0.5
        assert np.abs(crop - (expected if gray is ramp else expected[:, None])).max() < 2


def test_pixels_are_those_of_positions_rounded_to_a_32nd() -> None:
    gray = np.random.default_rng(3).integers(0, 256, (60, 80), np.uint8)
    left, top, length = 10.37, 20.61, 25.0
    exact = np.array([[left], [top]]) + (np.arange(16) + 0.5) * length / 16 - 0.5
    columns, rows = np.rint(exact * 32) / 32
    x, y = columns.astype(int), rows.astype(int)
    right, down = columns - x, (rows - y)[:, None]
    upper, lower = (gray[i][:, x] * (1 - right) + gray[i][:, x + 1] * right for i in (y, y + 1))
    expected = upper * (1 - down) + lower * down
    # OpenCV 4's warpAffine and that of OpenCV 5 differ by up to 3 here.
    assert np.abs(crop_square(gray, (left, top, length), 16) - expected).max() <= 0.51


def test_pads_outside_the_image() -> None:
    gray = np.full((20, 30), 200, np.uint8)
    crop = crop_square(gray, (-10.0, -10.0, 20.0), 20)
    assert (crop[:9] == PADDING).all()
    assert (crop[:, :9] == PADDING).all()
    assert (crop[11:, 11:] == 200).all()
    for square in ((-500.0, 0.0, 3.0), (1e9, 1e9, 2.0), (-1e20, -1e20, 2e20), (5.0, 5.0, 1.0)):
        assert crop_square(gray, square, 20).shape == (20, 20)
    assert expand_to_square((3.0, 3.0, 0.0, 0.0), 1.6)[2] == 1
