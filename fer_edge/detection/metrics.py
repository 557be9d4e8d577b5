"""Accuracy of a face detector: average precision, recall by face size, false positives."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceDataset, FaceImage
    from fer_edge.detection.base import FaceDetector

MATCH_IOU: Final = 0.5  # lowest intersection over union of a detected box with the face that it matches

_SIDE_LIMITS: Final = (0.0, 12.0, 20.0, 32.0, 64.0, 128.0, np.inf)


class ImageDetections(NamedTuple):
    """The faces that a detector found in one image.

    Attributes:
        boxes: left, top, width and height of each face, of shape (n, 4), in pixels of the image.
        scores: confidence for each face, of shape (n,).
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


class DetectionMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of a detector on labelled images.

    Attributes:
        images: number of images.
        faces: number of labelled faces.
        threshold: lowest score of a counted box.
        average_precision: average precision over all thresholds, 0..1.
        recall: share of the faces that were found, 0..1.
        false_positives_per_image: mean number of boxes without a face.
        recall_by_side: recall by the face's longer side in pixels, such as ``20-32``; ranges without faces are omitted.
    """

    images: int
    faces: int
    threshold: float
    average_precision: float
    recall: float
    false_positives_per_image: float
    recall_by_side: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Detected faces, matched with the labelled ones.

    Attributes:
        face_scores: score with which each labelled face was found, float64 of shape (faces,); minus infinity if it was
            not found.
        sides: longer side of each labelled face, in pixels, of shape (faces,).
        false_positives: score of each box without a face, of shape (boxes,).
        images: number of images.
    """

    face_scores: npt.NDArray[np.float64]
    sides: npt.NDArray[np.float64]
    false_positives: npt.NDArray[np.float64]
    images: int

    def recall(self, threshold: float, min_side: float = 0.0, max_side: float = np.inf) -> float:
        """Compute the share of the faces that are found; not-a-number if there are no such faces.

        Args:
            threshold: lowest score of a counted box.
            min_side: lowest side of a counted face, in pixels.
            max_side: upper limit of the side, not included.
        """
        scores = self.face_scores[(self.sides >= min_side) & (self.sides < max_side)]
        return float((scores >= threshold).mean()) if len(scores) else float("nan")

    def false_positives_per_image(self, threshold: float) -> float:
        """Count the boxes without a face per image that reach a threshold."""
        return float((self.false_positives >= threshold).sum()) / self.images

    def threshold_at(self, false_positives_per_image: float) -> float:
        """Return the lowest threshold with at most this number of false positives per image."""
        highest_first = np.sort(self.false_positives)[::-1]
        allowed = int(false_positives_per_image * self.images + 1e-9)
        return 0.0 if allowed >= len(highest_first) else float(np.nextafter(highest_first[allowed], np.inf))

    def average_precision(self, min_side: float = 0.0) -> float:
        """Compute the area under the precision-recall curve, 0..1; not-a-number if there are no such faces.

        All points of the curve are used, and the precision at a recall is the best at this or a higher recall, as in
        Everingham et al. 2015 (doi:10.1007/s11263-014-0733-5).

        Args:
            min_side: lowest side of a counted face, in pixels.
        """
        wanted = self.face_scores[self.sides >= min_side]
        if not len(wanted):
            return float("nan")
        found = wanted[wanted > -np.inf]
        scores = np.concatenate([found, self.false_positives])
        # False positives come first among equal scores, so that coarse scores are no advantage.
        order = np.lexsort((np.arange(len(scores)) < len(found), -scores))
        correct = order < len(found)
        precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(best[correct].sum() / len(wanted))

    def metrics(self, threshold: float) -> DetectionMetrics:
        """Summarize the matches for a detector with this threshold."""
        bands = itertools.pairwise(_SIDE_LIMITS)
        by_side = {f"{low:g}-{high:g}": self.recall(threshold, low, high) for low, high in bands}
        return DetectionMetrics(
            images=self.images,
            faces=len(self.face_scores),
            threshold=threshold,
            average_precision=self.average_precision(),
            recall=self.recall(threshold),
            false_positives_per_image=self.false_positives_per_image(threshold),
            recall_by_side={name: share for name, share in by_side.items() if not np.isnan(share)},
        )


def detect_all(detector: FaceDetector, images: FaceDataset) -> list[ImageDetections]:
    """Run a detector on each image of a dataset."""
    found = []
    for i in range(len(images)):
        faces = detector.detect(images.gray(i))
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        found.append(ImageDetections(boxes, np.array([face.score for face in faces], np.float32)))
    return found


def match(found: Sequence[ImageDetections], images: Sequence[FaceImage], min_iou: float = MATCH_IOU) -> Matches:
    """Match detected boxes with labelled faces.

    The box with the highest score is matched first, with the face that it overlaps most, then the box with the next
    score, as in Everingham et al. 2015. A second box on a face is a false positive. A box of which half or more lies
    in an ignored region is not counted.

    Args:
        found: detections in each image.
        images: the same images with their labelled faces.
        min_iou: lowest intersection over union, 0..1, of a box with its face.
    """
    face_scores, sides, false_positives = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for detections, image in zip(found, images, strict=True):
        matched = np.full(len(image.boxes), -np.inf)
        order = np.argsort(-detections.scores, kind="stable")
        boxes, scores = detections.boxes[order], detections.scores[order].astype(np.float64)
        areas, iou = boxes[:, 2] * boxes[:, 3], pairwise_iou(boxes, image.boxes)
        wrong = np.zeros(len(boxes), bool)
        for i, score in enumerate(scores):
            free = np.where(matched == -np.inf, iou[i], -1.0)
            best = int(free.argmax()) if len(free) else -1
            if best >= 0 and free[best] >= min_iou:
                matched[best] = score
            else:
                wrong[i] = True
        if len(image.ignored):
            wrong &= pairwise_intersection(boxes, image.ignored).max(axis=1, initial=0.0) < 0.5 * areas
        face_scores.append(matched)
        sides.append(image.boxes[:, 2:].max(axis=1).astype(np.float64))
        false_positives.append(scores[wrong])
    return Matches(np.concatenate(face_scores), np.concatenate(sides), np.concatenate(false_positives), len(images))


def pairwise_iou(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compute the intersection over union of each of n boxes with each of m boxes, of shape (n, m)."""
    shared = pairwise_intersection(a, b)
    areas_a, areas_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    return np.asarray(shared / np.maximum(areas_a[:, None] + areas_b - shared, 1e-9), np.float32)


def pairwise_intersection(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Compute the area that each of n boxes shares with each of m boxes, of shape (n, m)."""
    begin = np.maximum(a[:, None, :2], b[None, :, :2])
    end = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    area: npt.NDArray[np.float32] = np.maximum(end - begin, 0).prod(axis=2)
    return area
