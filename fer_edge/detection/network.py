"""The shipped face detector: a small convolutional network, with an optional second stage."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.detection.inference import FaceNetwork
from fer_edge.detection.postprocess import RawDetections, decode_outputs, drop_nonfinite, nms, rescale, select, to_faces
from fer_edge.detection.refiner import FaceRefiner
from fer_edge.detection.resampling import input_size
from fer_edge.detection.roi import ROI_SCORE_RATIO, ROI_SIDE, search_roi
from fer_edge.detection.selftest import TEST_SIDE, check_self_test
from fer_edge.detection.tiling import propose_in_tiles
from fer_edge.geometry import largest_first
from fer_edge.modelcard.archive import check_flatbuffer, model_bytes, read_model, refiner_bytes
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import DetectorCard
from fer_edge.utils.array_checks import check_gray
from fer_edge.utils.limits import DETECTOR_PIXELS
from fer_edge.utils.system import has_dot_products

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge.geometry import Box, CropSpec, Face

_MAX_NETWORKS: Final = 6  # networks of different input sizes that are kept; loading one takes as long as many frames
_SIZE_TOLERANCE: Final = 0.85  # boxes are not exact: accepted side relative to the smallest face to find


class _Overhead(NamedTuple):
    """What a search costs beside its pixels, in pixels of the first stage's input that take the same time.

    Attributes:
        call: running the first stage at all.
        refiner: the second stage in a region, beyond that of the same face in the image.
    """

    call: int
    refiner: int


# Fitted to times of detect and detect_in_roi on one core with int8 dot products, where a pixel costs little.
_WITH_DOT_PRODUCTS: Final = _Overhead(call=4_700, refiner=13_500)
# From benchmarks/arm.py for a Cortex-A53 and A72, with 2.5 times the time for an instruction that is not on vectors.
_WITHOUT_DOT_PRODUCTS: Final = _Overhead(call=2_000, refiner=4_000)


class NetworkDetector:
    """A face detector in a ``.tflite`` file with a card.

    One object must not be used by two threads at a time.

    Attributes:
        card: description of the model and its input.
        path: the file.
        sha256: hash of the file, as hexadecimal digits.
    """

    def __init__(
        self, path: Path, min_face: int | None = None, *, min_score: float | None = None, threads: int = 1
    ) -> None:
        """Load a detector.

        Args:
            path: the file.
            min_face: side of the smallest face to find, in pixels. None shrinks images for faces of a sixteenth of
                their longer side and returns smaller faces, too, if they are found.
            min_score: lowest score of a face, 0..1, as `detect` returns it; None for the threshold on the card.
            threads: number of threads that the runtime may use.

        Raises:
            MissingExtraError: no TFLite runtime is installed.
            ModelError: the file is missing or damaged, or does not match its card.
        """
        self.path = path
        self.card = read_card(path, DetectorCard)
        self.sha256 = hashlib.sha256(read_model(path)).hexdigest()
        self._flatbuffer = model_bytes(path)
        check_flatbuffer(path, self.card, self._flatbuffer)
        self._min_face, self._threads = min_face, threads
        self._overhead = _WITH_DOT_PRODUCTS if has_dot_products() else _WITHOUT_DOT_PRODUCTS
        calibration = self.card.calibration
        self._threshold = self.card.threshold
        if min_score is not None:
            self._threshold = calibration.score_at(min_score) if calibration else min_score
        self._networks: OrderedDict[tuple[int, int], FaceNetwork] = OrderedDict()
        self._refiner: FaceRefiner | None = None
        if self.card.refiner:
            flatbuffer = refiner_bytes(path)
            check_flatbuffer(path, self.card.refiner, flatbuffer)
            self._refiner = FaceRefiner(flatbuffer, self.card.refiner, path, threads=threads)
        self._network(1, 1)  # finds a fault of the file now and not with the first frame

    @property
    def crop_spec(self) -> CropSpec:
        """How to crop the detected boxes so that they look like FER-2013's images."""
        return self.card.crop_spec

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        """Find the faces in an image; see `TrackingDetector.detect`. Every box lies within the image."""
        check_gray(gray)
        rows, columns, _ = input_size(gray.shape, self._min_face, self.card.smallest_face, coarse=coarse)
        min_side = _SIZE_TOLERANCE * (self._min_face or 0)
        return largest_first(self._calibrate(self._find(gray, (rows, columns), min_side, self._threshold)))

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        """Find a face near its expected position; see `TrackingDetector.detect_in_roi`."""
        check_gray(gray)
        threshold = ROI_SCORE_RATIO * self._threshold
        return search_roi(gray, box, lambda part, size: self._calibrate(self._find(part, size, 0, threshold)))

    def roi_cost(self, shape: tuple[int, ...]) -> float:
        """Return the relative cost of a search near a face; see `TrackingDetector.roi_cost`."""
        rows, columns, _ = input_size(shape, self._min_face, self.card.smallest_face)
        height, width = self._padded(rows, columns)
        roi = ROI_SIDE**2 + self._overhead.call + (self._overhead.refiner if self._refiner else 0)
        return roi / (height * width + self._overhead.call)

    def propose(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], min_score: float, *, landmarks: bool = False
    ) -> RawDetections:
        """Run the first stage, and keep the best detection of each face.

        Args:
            gray: uint8 image of shape (rows, columns), at least one pixel.
            size: rows and columns to which the image is resized first.
            min_score: lowest score, 0..1.
            landmarks: whether to decode the landmarks; otherwise they are zeros.

        Returns:
            Detections in pixels of the image.
        """
        if size[0] * size[1] > DETECTOR_PIXELS:
            return propose_in_tiles(
                gray,
                size,
                math.isqrt(DETECTOR_PIXELS),
                lambda part, part_size: self.propose(part, part_size, min_score, landmarks=landmarks),
            )
        detections = decode_outputs(self._network(*size).run(gray, *size, min_score), min_score, landmarks=landmarks)
        if not len(detections.scores):
            return detections
        return rescale(nms(detections), gray.shape[0] / size[0], gray.shape[1] / size[1])

    def self_test(self) -> float | None:
        """Compare this machine's outputs with those recorded on the card.

        Returns:
            The largest difference of a stored element; None if the card has no self-test.

        Raises:
            RuntimeMismatchError: the difference is larger than the card allows.
        """
        test = self.card.self_test
        if test is None:
            return None
        difference = check_self_test(test, self._network(TEST_SIDE, TEST_SIDE).self_test_outputs(), self.path)
        if self._refiner and self._refiner.card.self_test:
            outputs = self._refiner.self_test_outputs()
            difference = max(difference, check_self_test(self._refiner.card.self_test, outputs, self.path))
        return difference

    def _calibrate(self, faces: Iterator[Face]) -> Iterator[Face]:
        """Replace the scores of faces by the precision to expect."""
        calibration = self.card.calibration
        if calibration is None:
            return faces
        return (face._replace(score=calibration.precision_at(face.score)) for face in faces)

    def _find(
        self, gray: npt.NDArray[np.uint8], size: tuple[int, int], min_side: float, threshold: float
    ) -> Iterator[Face]:
        """Find the faces in an image that is resized to ``size`` first; their scores are not calibrated."""
        if not self._refiner:
            return to_faces(self.propose(gray, size, threshold, landmarks=True), gray.shape, min_side)
        detections = self.propose(gray, size, self._refiner.card.min_score)
        if min_side and len(detections.scores):
            detections = select(detections, detections.boxes[:, 2:].max(axis=1) >= _SIZE_TOLERANCE * min_side)
        if len(detections.scores):
            refined = self._refiner.refine(gray, detections)
            # Detections that the first stage took for several faces may now cover the same face.
            detections = nms(drop_nonfinite(select(refined, refined.scores >= threshold)))
        return to_faces(detections, gray.shape, min_side)

    def _network(self, rows: int, columns: int) -> FaceNetwork:
        """Return the network for images of a size, rounded up to a multiple of the largest stride."""
        size = self._padded(rows, columns)
        network = self._networks.get(size)
        if network is None:
            height, width = size
            network = FaceNetwork(
                self._flatbuffer, self.card, self.path, height=height, width=width, threads=self._threads
            )
            self._networks[size] = network
            if len(self._networks) > _MAX_NETWORKS:
                self._networks.popitem(last=False)
        self._networks.move_to_end(size)
        return network

    def _padded(self, rows: int, columns: int) -> tuple[int, int]:
        """Round a size up to multiples of the largest stride."""
        stride = max(self.card.strides)
        return -(-rows // stride) * stride, -(-columns // stride) * stride
