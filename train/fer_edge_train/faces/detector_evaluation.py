"""A detector's results on the validation images, and those of another detector beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.detection.metrics import ImageDetections, Matches, match
from fer_edge_train.faces.detector_validation import MIN_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset
    from fer_edge.detection.base import FaceDetector

_THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8)  # of the other detector
_MAX_EXAMPLES: Final = 24
_EXAMPLE_SIDE: Final = 128  # pixels


@dataclass(frozen=True, slots=True, eq=False)
class DetectorEvaluation:
    """A detector's results on the validation images.

    Attributes:
        data: the images and their faces.
        grays: the images, uint8, of any sizes.
        detections: what the detector found in each image.
        matches: the detections compared with the faces.
    """

    data: FaceDataset
    grays: Sequence[npt.NDArray[np.uint8]]
    detections: Sequence[ImageDetections]
    matches: Matches

    @classmethod
    def of(
        cls, data: FaceDataset, grays: Sequence[npt.NDArray[np.uint8]], detections: Sequence[ImageDetections]
    ) -> DetectorEvaluation:
        """Compare detections with the faces of a dataset."""
        return cls(data, grays, detections, match(detections, data.images))

    def misses(self, threshold: float) -> list[npt.NDArray[np.uint8]]:
        """Return images of the largest faces without a detection of at least ``threshold``, at most 24."""
        image = np.repeat(np.arange(len(self.grays)), [len(one.boxes) for one in self.data.images])
        boxes = np.concatenate([one.boxes for one in self.data.images])
        missed = np.flatnonzero(self.matches.face_scores < threshold)
        largest = missed[np.argsort(-self.matches.sides[missed], kind="stable")][:_MAX_EXAMPLES]
        return [_crop_example(self.grays[image[i]], boxes[i]) for i in largest]

    def false_alarms(self) -> list[tuple[float, npt.NDArray[np.uint8]]]:
        """Return scores and images of the false alarms with the highest scores, at most 24."""
        each = zip(self.grays, self.detections, self.data.images, strict=True)
        alarms = [(score, gray, found) for gray, found, one in each for score in match([found], [one]).false_positives]
        alarms.sort(key=lambda alarm: -alarm[0])
        return [
            (float(score), _crop_example(gray, found.boxes[int(np.abs(found.scores - score).argmin())]))
            for score, gray, found in alarms[:_MAX_EXAMPLES]
        ]


class DetectorComparison(msgspec.Struct, frozen=True):
    """Another detector at one of its thresholds, and ours with as many false alarms.

    Attributes:
        threshold: threshold of the other detector.
        false_positives_per_image: false alarms of the other detector; ours has at most as many.
        recall: recall of the other detector, for faces of at least `MIN_SIDE` pixels.
        own_recall: recall of our detector, for the same faces.
    """

    threshold: float
    false_positives_per_image: float
    recall: float
    own_recall: float


def compare_detectors(evaluation: DetectorEvaluation, other: FaceDetector) -> list[DetectorComparison]:
    """Run another detector on the same images and compare."""
    detections = []
    for gray in evaluation.grays:
        faces = other.detect(gray)
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        detections.append(ImageDetections(boxes, np.array([face.score for face in faces], np.float32)))
    theirs, ours = match(detections, evaluation.data.images), evaluation.matches
    rows = []
    for threshold in _THRESHOLDS:
        alarms = theirs.false_positives_per_image(threshold)
        own_recall = ours.recall(ours.threshold_at(alarms), MIN_SIDE)
        rows.append(DetectorComparison(threshold, alarms, theirs.recall(threshold, MIN_SIDE), own_recall))
    return rows


def _crop_example(gray: npt.NDArray[np.uint8], box: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Crop a square of twice the box's size, scale it to one size and draw the box."""
    x, y, width, height = box.tolist()
    side = 2 * max(width, height, 1.0)
    zoom = _EXAMPLE_SIDE / side
    left, top = x + width / 2 - side / 2, y + height / 2 - side / 2
    matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
    image = np.asarray(cv2.warpAffine(gray, matrix, (_EXAMPLE_SIDE, _EXAMPLE_SIDE)), np.uint8)
    first, last = ((x - left) * zoom, (y - top) * zoom), ((x + width - left) * zoom, (y + height - top) * zoom)
    cv2.rectangle(image, (round(first[0]), round(first[1])), (round(last[0]), round(last[1])), 255)
    return image
