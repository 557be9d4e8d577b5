"""The detector that the project had before its own network, for comparison where OpenCV still has it (4, not 5)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from fer_edge.detection.resampling import input_size
from fer_edge.geometry import Box, CropSpec, Face, largest_first

if TYPE_CHECKING:
    import numpy.typing as npt

_CASCADE: Final[Any] = getattr(cv2, "CascadeClassifier", None)
IS_THERE: Final = _CASCADE is not None


class HaarDetector:
    """Viola-Jones cascade of OpenCV (Viola & Jones 2001)."""

    crop_spec: Final = CropSpec(scale=0.95, shift=0.0)  # measured by crop_margin.py

    _WINDOW: Final = 24  # the cascade's own window is 20 pixels; a little above it, faces are found more surely

    def __init__(self, min_face: int | None = None) -> None:
        """Load the cascade.

        Args:
            min_face: side of the smallest face to find, in pixels; a sixteenth of an image's longer side without.
        """
        self._cascade = _CASCADE(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))
        self._min_face = min_face

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Faces in a uint8 grey image of shape (rows, columns), largest first."""
        rows, columns, smallest = input_size(gray.shape, self._min_face, self._WINDOW)
        small = gray
        if gray.shape != (rows, columns):
            small = np.asarray(cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        factor = smallest / self._WINDOW
        boxes, _, weights = self._cascade.detectMultiScale3(
            small, scaleFactor=1.1, minNeighbors=4, minSize=(self._WINDOW, self._WINDOW), outputRejectLevels=True
        )
        return largest_first(
            Face(Box(*(float(value) * factor for value in box)), float(np.ravel(weight)[0]))
            for box, weight in zip(boxes, weights, strict=True)
        )
