"""YuNet, a face detector whose file the user brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.detection.base import faces_in_roi, faces_within, reduced_size
from fer_edge.detection.postprocess import RawDetections, scaled
from fer_edge.detection.roi import ROI_SCORE_RATIO
from fer_edge.errors import ModelError
from fer_edge.geometry import Box, CropSpec, Face, largest_first
from fer_edge.utils.native_stderr import native_stderr_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_FAR: Final = 1e6  # pixels beyond which there is no face but numbers that overflow


class YuNetDetector:
    """YuNet through OpenCV (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y); its ONNX file is the user's."""

    # Measured by benchmarks/crop_margin.py.
    crop_spec: Final = CropSpec(scale=0.9, shift=0.0, align_eyes=True)

    _WINDOW: Final = 20  # pixels; it finds smaller faces, but with fewer hits

    def __init__(self, model: Path, min_face: int | None = None, threshold: float = 0.7) -> None:
        """Load a network.

        Args:
            model: ``face_detection_yunet_2023mar.onnx`` of the OpenCV Zoo, or a later one.
            min_face: side of the smallest face to find, in pixels; a sixteenth of an image's longer side without.
            threshold: least score of a face, 0..1.

        Raises:
            ModelError: the file is missing or not such a network.
        """
        if not model.is_file():
            raise ModelError(f"{model}: no such file; download face_detection_yunet_2023mar.onnx from the OpenCV Zoo")
        try:
            with native_stderr_hidden():  # OpenCV 5 warns of what nobody asked for
                self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), threshold)
                self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(
                f"{model}: not a YuNet network that OpenCV {cv2.__version__} reads ({error.err})"
            ) from error
        self._min_face, self._threshold = min_face, threshold
        # Images of one size are shrunk and coloured in the same memory every time.
        self._small, self._colour = np.empty((0, 0), np.uint8), np.empty((0, 0, 3), np.uint8)

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Faces in a uint8 grey image of shape (rows, columns), largest first; every box lies within the image."""
        if not gray.size:
            return []
        rows, columns, smallest = reduced_size(gray.shape, self._min_face, self._WINDOW, coarse=coarse)
        return largest_first(self._find(gray, (rows, columns), smallest, self._threshold))

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Faces around a box in a uint8 grey image of shape (rows, columns), largest first."""
        return faces_in_roi(gray, box, lambda part, size: self._find(part, size, 0, ROI_SCORE_RATIO * self._threshold))

    def _find(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], smallest: float, threshold: float
    ) -> Iterator[Face]:
        """Faces in an image that is brought to a size first."""
        rows, columns = size
        if self._small.shape != size:
            self._small, self._colour = np.empty(size, np.uint8), np.empty((*size, 3), np.uint8)
        small = gray
        if gray.shape != size:
            cv2.resize(gray, (columns, rows), self._small, interpolation=cv2.INTER_AREA)
            small = self._small
        cv2.cvtColor(small, cv2.COLOR_GRAY2BGR, self._colour)
        self._network.setInputSize((columns, rows))
        self._network.setScoreThreshold(threshold)
        _, found = self._network.detect(self._colour)
        if found is None:
            return iter(())
        sound = np.asarray(found[(np.abs(found) < _FAR).all(axis=1)], np.float32)
        cells = RawDetections(sound[:, :4], sound[:, -1], sound[:, 4:14].reshape(-1, 5, 2))
        return faces_within(scaled(cells, gray.shape[0] / rows, gray.shape[1] / columns), gray.shape, smallest)
