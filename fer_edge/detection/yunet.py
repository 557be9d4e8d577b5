"""YuNet, a face detector whose model file the user downloads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.detection.postprocess import NO_DETECTIONS, RawDetections, rescale, to_faces
from fer_edge.detection.resampling import input_size
from fer_edge.detection.roi import ROI_SCORE_RATIO, ROI_SIDE, search_roi
from fer_edge.detection.tiling import propose_in_tiles
from fer_edge.errors import ModelError
from fer_edge.geometry import Box, CropSpec, Face, largest_first
from fer_edge.tflite import trial
from fer_edge.utils.array_checks import check_gray
from fer_edge.utils.bounded_file import read_bytes
from fer_edge.utils.limits import MODEL_BYTES, YUNET_PIXELS
from fer_edge.utils.native_stderr import hide_native_stderr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

_THRESHOLD: Final = 0.7
_MAX_COORDINATE: Final = 1e6  # pixels; larger values come from an overflow in the network


class YuNetDetector:
    """YuNet, run by OpenCV (Wu, Peng & Yu 2023, doi:10.1007/s11633-023-1423-y).

    One object must not be used by two threads at a time.
    """

    # Measured by benchmarks/crop_margin.py.
    crop_spec: Final = CropSpec(scale=0.9, shift=0.0, align_eyes=True)

    _WINDOW: Final = 20  # pixels; smaller faces are found less reliably

    def __init__(self, model: Path, min_face: int | None = None, min_score: float | None = None) -> None:
        """Load a network.

        Args:
            model: ``face_detection_yunet_2023mar.onnx`` of the OpenCV Zoo, or a later version.
            min_face: side of the smallest face to find, in pixels; None for a sixteenth of an image's longer side.
            min_score: lowest score of a face, 0..1, in YuNet's own scores; None for 0.7.

        Raises:
            ModelError: the file is missing or is not a YuNet network.
        """
        threshold = _THRESHOLD if min_score is None else min_score
        if not model.exists():
            raise ModelError(f"{model}: no such file; download face_detection_yunet_2023mar.onnx from the OpenCV Zoo")
        if not trial.works(read_bytes(model, MODEL_BYTES, ModelError), model, "cv2"):
            raise ModelError(f"{model}: not a YuNet network that OpenCV {cv2.__version__} can read")
        try:
            with hide_native_stderr():  # OpenCV 5 prints irrelevant warnings
                self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), threshold)
                self._network.detect(np.zeros((320, 320, 3), np.uint8))
        except cv2.error as error:
            raise ModelError(
                f"{model}: not a YuNet network that OpenCV {cv2.__version__} can read ({error.err})"
            ) from error
        self._min_face, self._threshold = min_face, threshold
        # Buffers of the shrunk and the coloured image, reused for images of the same size.
        self._small, self._colour = np.empty((0, 0), np.uint8), np.empty((0, 0, 3), np.uint8)

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Find the faces in an image; see `TrackingDetector.detect`. Every box lies within the image."""
        check_gray(gray)
        rows, columns, min_side = input_size(gray.shape, self._min_face, self._WINDOW, coarse=coarse)
        return largest_first(self._find(gray, (rows, columns), min_side, self._threshold))

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Find a face near its expected position; see `TrackingDetector.detect_in_roi`."""
        check_gray(gray)
        return search_roi(gray, box, lambda part, size: self._find(part, size, 0, ROI_SCORE_RATIO * self._threshold))

    def roi_cost(self, shape: tuple[int, ...]) -> float:
        """Return the relative cost of a search near a face; see `TrackingDetector.roi_cost`."""
        rows, columns, _ = input_size(shape, self._min_face, self._WINDOW)
        return ROI_SIDE**2 / (rows * columns)

    def _find(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], min_side: float, threshold: float
    ) -> Iterator[Face]:
        """Find the faces in an image that is resized to ``size`` first."""
        self._network.setScoreThreshold(threshold)
        if size[0] * size[1] > YUNET_PIXELS:
            detections = propose_in_tiles(gray, size, math.isqrt(YUNET_PIXELS), self._propose)
        else:
            detections = self._propose(gray, size)
        return to_faces(detections, gray.shape, min_side)

    def _propose(self, gray: npt.NDArray[np.uint8], size: tuple[int, int]) -> RawDetections:
        rows, columns = size
        if self._small.shape != size:
            self._small, self._colour = np.empty(size, np.uint8), np.empty((*size, 3), np.uint8)
        small = gray
        if gray.shape != size:
            cv2.resize(gray, (columns, rows), self._small, interpolation=cv2.INTER_AREA)
            small = self._small
        cv2.cvtColor(small, cv2.COLOR_GRAY2BGR, self._colour)
        self._network.setInputSize((columns, rows))
        _, found = self._network.detect(self._colour)
        if found is None:
            return NO_DETECTIONS
        valid = np.asarray(found[(np.abs(found) < _MAX_COORDINATE).all(axis=1)], np.float32)
        detections = RawDetections(valid[:, :4], valid[:, -1], valid[:, 4:14].reshape(-1, 5, 2))
        return rescale(detections, gray.shape[0] / rows, gray.shape[1] / columns)
