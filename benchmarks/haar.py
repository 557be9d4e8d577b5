"""OpenCV's Haar detector, for comparison; OpenCV 4 has it, OpenCV 5 does not."""

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
HAS_HAAR: Final = _CASCADE is not None


class HaarDetector:
    """The Viola-Jones cascade of OpenCV (Viola & Jones 2001)."""

    crop_spec: Final = CropSpec(scale=0.95, shift=0.0)  # measured by crop_margin.py

    _WINDOW: Final = 24  # pixels; faces a little larger than the cascade's window of 20 pixels are found more reliably

    def __init__(self, min_face: int | None = None) -> None:
        """Load the cascade.

        Args:
            min_face: side of the smallest face to find, in pixels; None for a sixteenth of an image's longer side.
        """
        self._cascade = _CASCADE(str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"))
        self._min_face = min_face

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        """Find the faces in a uint8 grey image of shape (rows, columns); return them largest first."""
        rows, columns, min_side = input_size(gray.shape, self._min_face, self._WINDOW)
        small = gray
        if gray.shape != (rows, columns):
            small = np.asarray(cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
        factor = min_side / self._WINDOW
        boxes, _, weights = self._cascade.detectMultiScale3(
            small, scaleFactor=1.1, minNeighbors=4, minSize=(self._WINDOW, self._WINDOW), outputRejectLevels=True
        )
        return largest_first(
            Face(Box(*(float(value) * factor for value in box)), float(np.ravel(weight)[0]))
            for box, weight in zip(boxes, weights, strict=True)
        )
