"""What holds of every detector's boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from fer_edge.detection.base import FaceDetector
    from fer_edge.geometry import Face


def check_within(faces: Iterable[Face], gray: npt.NDArray[np.uint8]) -> None:
    rows, columns = gray.shape
    for face in faces:
        x, y, width, height = face.box
        assert 0 <= x < x + width <= columns + 1e-9
        assert 0 <= y < y + height <= rows + 1e-9
        assert np.isfinite((*face.box, face.score)).all()


def check_nothing_in_empty_images(detector: FaceDetector) -> None:
    for shape in ((0, 0), (0, 640), (480, 0)):
        assert detector.detect(np.empty(shape, np.uint8)) == []
