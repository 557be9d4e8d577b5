"""How well a face detector finds faces: average precision, recall by size, false alarms."""

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

OVERLAP: Final = 0.5  # intersection over union of a box with a face, from which on it is that face's

_SIDES: Final = (0.0, 12.0, 20.0, 32.0, 64.0, 128.0, np.inf)


class Found(NamedTuple):
    """What a detector found in one image.

    Attributes:
        boxes: left, top, width and height of each, of shape (n, 4), in pixels of the image.
        scores: how sure it is of each, of shape (n,).
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


class DetectionMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How well a detector does on images with marked faces.

    Attributes:
        images: how many there were.
        faces: how many are in them.
        threshold: score from which on a box counted.
        average_precision: over all thresholds, 0..1.
        recall: share of the faces that were found, 0..1.
        false_positives_per_image: boxes where there is no face.
        recall_by_side: the same for faces by their longer side in pixels; sides that no face has are left out.
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
    """What was found beside what is there.

    Attributes:
        hits: score with which each face was found, float64 of shape (faces,); minus infinity where it was not.
        sides: longer side of each face, in pixels, of shape (faces,).
        alarms: score of each box where there is no face, of shape (alarms,).
        images: how many there were.
    """

    hits: npt.NDArray[np.float64]
    sides: npt.NDArray[np.float64]
    alarms: npt.NDArray[np.float64]
    images: int

    def recall(self, threshold: float, least: float = 0.0, most: float = np.inf) -> float:
        """Share of the faces with a side of ``least`` pixels or more, but less than ``most``, that are found.

        Only what scores ``threshold`` or more counts.  Not-a-number where there is no such face.
        """
        hits = self.hits[(self.sides >= least) & (self.sides < most)]
        return float((hits >= threshold).mean()) if len(hits) else float("nan")

    def false_positives_per_image(self, threshold: float) -> float:
        """Boxes where there is no face, an image, that score ``threshold`` or more."""
        return float((self.alarms >= threshold).sum()) / self.images

    def threshold_at(self, false_positives_per_image: float) -> float:
        """The least threshold with no more false alarms an image than that."""
        worst_first = np.sort(self.alarms)[::-1]
        allowed = int(false_positives_per_image * self.images + 1e-9)
        return 0.0 if allowed >= len(worst_first) else float(np.nextafter(worst_first[allowed], np.inf))

    def average_precision(self, least: float = 0.0) -> float:
        """Area under the curve of precision over recall, 0..1, for faces with a side of ``least`` pixels or more.

        Over all points of the curve, with precision as its best at that recall or more, as in Everingham et al. 2015
        (doi:10.1007/s11263-014-0733-5).  Not-a-number where there is no such face.
        """
        hits = self.hits[self.sides >= least]
        if not len(hits):
            return float("nan")
        hits, faces = hits[hits > -np.inf], len(hits)
        scores = np.concatenate([hits, self.alarms])
        # Of equal scores, false alarms come first: nobody gains by coarse scores.
        order = np.lexsort((np.arange(len(scores)) < len(hits), -scores))
        right = order < len(hits)
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        best = np.maximum.accumulate(precision[::-1])[::-1]
        return float(best[right].sum() / faces)

    def metrics(self, threshold: float) -> DetectionMetrics:
        """All of it in figures, for a detector with this threshold."""
        bands = itertools.pairwise(_SIDES)
        by_side = {f"{low:g}-{high:g}": self.recall(threshold, low, high) for low, high in bands}
        return DetectionMetrics(
            images=self.images,
            faces=len(self.hits),
            threshold=threshold,
            average_precision=self.average_precision(),
            recall=self.recall(threshold),
            false_positives_per_image=self.false_positives_per_image(threshold),
            recall_by_side={name: share for name, share in by_side.items() if not np.isnan(share)},
        )


def find(detector: FaceDetector, images: FaceDataset) -> list[Found]:
    """What a detector finds in each image."""
    found = []
    for i in range(len(images)):
        faces = detector.detect(images.gray(i))
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        found.append(Found(boxes, np.array([face.score for face in faces], np.float32)))
    return found


def match(found: Sequence[Found], images: Sequence[FaceImage], overlap: float = OVERLAP) -> Matches:
    """Compare what was found in images with what is there.

    The box with the highest score takes the face that it overlaps most, then the next, as in Everingham et al. 2015; a
    second box on a face is a false alarm.  A box of which half or more lies in an ignored region counts for nothing.

    Args:
        found: in each image.
        images: with their faces.
        overlap: least intersection over union, 0..1, of a box with its face.
    """
    hits, sides, alarms = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    for one, image in zip(found, images, strict=True):
        hit = np.full(len(image.boxes), -np.inf)
        order = np.argsort(-one.scores, kind="stable")
        boxes, scores = one.boxes[order], one.scores[order].astype(np.float64)
        areas, union = boxes[:, 2] * boxes[:, 3], overlaps(boxes, image.boxes)
        wrong = np.zeros(len(boxes), bool)
        for i, score in enumerate(scores):
            free = np.where(hit == -np.inf, union[i], -1.0)
            best = int(free.argmax()) if len(free) else -1
            if best >= 0 and free[best] >= overlap:
                hit[best] = score
            else:
                wrong[i] = True
        if len(image.ignored):
            wrong &= intersections(boxes, image.ignored).max(axis=1, initial=0.0) < 0.5 * areas
        hits.append(hit)
        sides.append(image.boxes[:, 2:].max(axis=1).astype(np.float64))
        alarms.append(scores[wrong])
    return Matches(np.concatenate(hits), np.concatenate(sides), np.concatenate(alarms), len(images))


def overlaps(some: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Intersection over union of each of n boxes with each of m, of shape (n, m)."""
    shared = intersections(some, others)
    areas, own = some[:, 2] * some[:, 3], others[:, 2] * others[:, 3]
    return np.asarray(shared / np.maximum(areas[:, None] + own - shared, 1e-9), np.float32)


def intersections(some: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Area that each of n boxes shares with each of m, of shape (n, m)."""
    begin = np.maximum(some[:, None, :2], others[None, :, :2])
    end = np.minimum((some[:, :2] + some[:, 2:])[:, None], (others[:, :2] + others[:, 2:])[None])
    area: npt.NDArray[np.float32] = np.maximum(end - begin, 0).prod(axis=2)
    return area
