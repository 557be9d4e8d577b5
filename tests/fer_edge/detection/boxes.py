"""Checks that apply to every detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fer_edge.errors import InputError
from fer_edge.geometry import Box

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from fer_edge.detection.base import TrackingDetector
    from fer_edge.geometry import Face


def check_within(faces: Iterable[Face], gray: npt.NDArray[np.uint8]) -> None:
    rows, columns = gray.shape
    for face in faces:
        x, y, width, height = face.box
        assert 0 <= x < x + width <= columns + 1e-9
        assert 0 <= y < y + height <= rows + 1e-9
        assert np.isfinite((*face.box, face.score)).all()


def check_refuses_wrong_images(detector: TrackingDetector) -> None:
    gray = np.zeros((48, 64), np.uint8)
    cases: list[tuple[Any, str]] = [
        (np.empty((0, 0), np.uint8), "this array is empty"),
        (np.empty((0, 640), np.uint8), "this array is empty"),
        (np.empty((480, 0), np.uint8), "this array is empty"),
        (np.zeros((48, 64), np.float32), r"an array of float32 with shape \(48, 64\).*scale its values to 0\.\.255"),
        (np.zeros((48, 64), np.uint16), "an array of uint16 .*scale its values"),
        (np.zeros((48, 64), bool), "an array of bool"),
        (np.zeros((48, 64, 3), np.uint8), "convert colour to grey first"),
        (np.zeros((48, 64, 4), np.uint8), "convert colour to grey first"),
        (np.zeros(64, np.uint8), r"with shape \(64,\) is not a grey image: give uint8 of shape \(rows, columns\)$"),
        (gray[None], r"with shape \(1, 48, 64\)"),
        (gray.tolist(), "a value of type list .*, as a NumPy array"),
        (None, "a value of type NoneType"),
    ]
    for wrong, reason in cases:
        with pytest.raises(InputError, match=reason):
            detector.detect(wrong)
        with pytest.raises(InputError, match=reason):
            detector.detect_in_roi(wrong, Box(0, 0, 10, 10))
