"""Corrections of the labels of a detector's images, by somebody who looked at them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.datasets.faces import BOX_COLUMNS, parse_boxes, read_rows
from fer_edge.detection.metrics import pairwise_intersection, pairwise_iou
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets.faces import FaceDataset, FaceImage

_KINDS: Final = ("face", "none", "ignore")
_SAME_IOU: Final = 0.5  # of a correction with the label that it replaces
_SAME_SHARE: Final = 0.5  # share of a correction that lies in the ignored region that it replaces


def correct_labels(data: FaceDataset, table: Path) -> FaceDataset:
    """Return a dataset with corrected labels.

    A correction takes the place of the labels and ignored regions at its box. A corrected face has a score of 1 and
    keeps the landmarks of the label that it replaces.

    Args:
        data: labelled images.
        table: CSV with the columns ``file``, ``kind``, ``x``, ``y``, ``w`` and ``h``, in pixels of the image. The kind
            is ``face``, ``none`` for an object that is no face, or ``ignore`` where it cannot be told.

    Raises:
        DataError: the table cannot be read, or lists none of the images.
    """
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for number, row in enumerate(read_rows(table, ("file", "kind", *BOX_COLUMNS)), 2):
        if row["kind"] not in _KINDS or not row["x"]:
            raise DataError(f"{table}, line {number}: kind is {row['kind']!r}, not {', '.join(_KINDS)}, or has no box")
        rows[row["file"]].append(row)
    if not any(image.name in rows for image in data.images):
        raise DataError(f"{table}: it lists none of the images in {data.name}; give the table of these images")
    return replace(
        data, images=tuple(_correct(one, rows[one.name]) if one.name in rows else one for one in data.images)
    )


def _correct(image: FaceImage, rows: list[dict[str, str]]) -> FaceImage:
    boxes, scores, landmarks, ignored = image.boxes, image.scores, image.landmarks, image.ignored
    not_faces = image.not_faces
    for row in rows:
        box = parse_boxes([row])
        overlap = pairwise_iou(boxes, box)[:, 0]
        points = np.full((1, 5, 2), np.nan, np.float32)
        if overlap.max(initial=0) >= _SAME_IOU:
            points = landmarks[overlap.argmax()][None]
        others = overlap < _SAME_IOU
        boxes, scores, landmarks = boxes[others], scores[others], landmarks[others]
        ignored = ignored[pairwise_intersection(ignored, box)[:, 0] < _SAME_SHARE * box[0, 2] * box[0, 3]]
        if row["kind"] == "face":
            boxes, landmarks = np.concatenate((boxes, box)), np.concatenate((landmarks, points))
            scores = np.append(scores, np.float32(1))
        elif row["kind"] == "none":
            not_faces = np.concatenate((not_faces, box))
        else:
            ignored = np.concatenate((ignored, box))
    return replace(
        image, boxes=boxes, scores=scores, landmarks=landmarks, ignored=ignored, not_faces=not_faces, corrected=True
    )
