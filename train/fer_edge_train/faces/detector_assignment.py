"""Assignment of faces to the cells of the detector's output, in any Keras backend."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from keras import ops

from fer_edge_train.faces.detector_recipe import STRIDES
from fer_edge_train.faces.detector_targets import (
    BOX,
    FACE,
    FACE_WITHOUT_LANDMARKS,
    IGNORED,
    KIND,
    LANDMARKS,
    MIN_TEACHER_WEIGHT,
    WEIGHT,
)

Tensor = Any  # of whichever backend

_EPSILON: Final = 1e-9


class CellGrid(NamedTuple):
    """Places of all cells in a square image.

    Attributes:
        centres: x and y, in pixels, float32 of shape (cells, 2).
        strides: distance to the next cell, in pixels, float32 of shape (cells, 1).
    """

    centres: Tensor
    strides: Tensor


class CellTargets(NamedTuple):
    """What each cell should answer.

    Attributes:
        score: 0 for cells without a face, of shape (n, cells).
        score_mask: 1, or 0 if it is not known whether there is a face, of shape (n, cells).
        box_weight: weight of box and landmarks, of shape (n, cells).
        box: left, top, right and bottom, in pixels, of shape (n, cells, 4); zeros without a face.
        landmarks: five points, in pixels, of shape (n, cells, 10).
        landmark_mask: 1 if the landmarks are known, else 0, of shape (n, cells).
    """

    score: Tensor
    score_mask: Tensor
    box_weight: Tensor
    box: Tensor
    landmarks: Tensor
    landmark_mask: Tensor


def cell_grid(side: int) -> CellGrid:
    """Return the cells of a square image of ``side`` pixels: finest level first, each level by rows."""
    centres, strides = [], []
    for stride in STRIDES:
        centre = (np.arange(side // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centre, centre, indexing="ij")
        centres.append(np.stack((x, y), axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride, np.float32))
    return CellGrid(ops.convert_to_tensor(np.concatenate(centres)), ops.convert_to_tensor(np.concatenate(strides)))


def decode_boxes(box: Tensor, grid: CellGrid) -> Tensor:
    """Convert the network's boxes to corners, in pixels, of shape (n, cells, 4)."""
    centre = box[..., :2] * grid.strides + grid.centres
    half = ops.exp(ops.clip(box[..., 2:], -4.0, 4.0)) * grid.strides / 2
    return ops.concatenate((centre - half, centre + half), axis=-1)


def assign(
    truth: Tensor,
    scores: Tensor,
    boxes: Tensor,
    grid: CellGrid,
    *,
    candidates: int,
    score_power: float,
    overlap_power: float,
) -> CellTargets:
    """Assign to each face the cells that find it best: task alignment learning (Feng et al. 2021, arXiv:2108.07755).

    Args:
        truth: result of `fer_edge_train.faces.detector_targets.pack`, of shape (n, rows, 16).
        scores: current scores of the cells, 0..1, of shape (n, cells).
        boxes: current boxes of the cells as corners, in pixels, of shape (n, cells, 4).
        grid: places of the cells.
        candidates: maximum number of cells for a face.
        score_power: exponent of the score in the alignment of a cell with a face.
        overlap_power: exponent of the overlap in that alignment.
    """
    kind = truth[..., KIND]
    is_face = ops.logical_or(ops.equal(kind, FACE), ops.equal(kind, FACE_WITHOUT_LANDMARKS))
    corners = truth[..., BOX]
    # A face that contains no centre of a cell belongs to the cells around it.
    centre, half = (corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]) / 2
    reach = ops.maximum(half, 0.55 * STRIDES[0])
    near = ops.all(ops.abs(grid.centres - centre[:, :, None]) < reach[:, :, None], axis=-1)
    inside = ops.cast(ops.logical_and(near, is_face[..., None]), "float32")
    overlap = iou(corners[:, :, None], boxes[:, None]) * inside
    alignment = (scores[:, None] + _EPSILON) ** score_power * overlap**overlap_power
    count = min(candidates, grid.strides.shape[0])
    lowest = ops.top_k(alignment, count, sorted=True)[0][..., -1:]
    claimed = inside * ops.cast(alignment >= ops.maximum(lowest, _EPSILON**4), "float32")
    # If two faces claim a cell, the one with more overlap gets it.
    owner = ops.argmax(overlap * claimed - (1 - claimed), axis=1)
    rows = ops.arange(ops.shape(truth)[1], dtype=owner.dtype)
    assigned = claimed * ops.cast(ops.equal(owner[:, None], rows[:, None]), "float32")
    alignment, overlap = alignment * assigned, overlap * assigned
    # The target of a face's best cell is its overlap. Those of the others are in proportion.
    highest = ops.maximum(ops.max(alignment, axis=-1, keepdims=True), _EPSILON**4)
    scale = ops.max(overlap, axis=-1, keepdims=True) / highest
    score = ops.sum(alignment * scale * truth[..., WEIGHT, None], axis=1)
    ignored = ops.logical_and(
        ops.all(grid.centres >= corners[:, :, None, :2], axis=-1),
        ops.all(grid.centres <= corners[:, :, None, 2:], axis=-1),
    )
    ignored = ops.any(ops.logical_and(ignored, ops.equal(kind, IGNORED)[..., None]), axis=1)
    has_face = ops.any(assigned > 0, axis=1)
    # Not as a product with ``assigned``: a GPU may compute that in TF32, which rounds to an eighth of a pixel from 128
    # on.
    rows_of_cells = ops.take_along_axis(truth, owner[..., None], axis=1) * ops.cast(has_face, "float32")[..., None]
    return CellTargets(
        score,
        ops.cast(ops.logical_or(has_face, ops.logical_not(ignored)), "float32"),
        score,
        rows_of_cells[..., BOX],
        rows_of_cells[..., LANDMARKS],
        ops.cast(ops.equal(rows_of_cells[..., KIND], FACE), "float32"),
    )


def follow_teacher(targets: CellTargets, teacher_targets: Tensor) -> CellTargets:
    """Take over what a teacher answers for each cell, except where it misses an annotated face.

    Args:
        targets: from the annotations.
        teacher_targets: `fer_edge_train.faces.yunet_teacher.compute_targets` of each scene, of shape (n, cells, 16).
    """
    weight = teacher_targets[..., WEIGHT]
    follows = weight >= targets.score
    has_box = ops.cast(ops.equal(teacher_targets[..., KIND], FACE), "float32")
    return CellTargets(
        ops.maximum(weight, targets.score),
        ops.maximum(targets.score_mask, ops.cast(weight >= MIN_TEACHER_WEIGHT, "float32")),
        ops.where(follows, weight * has_box, targets.box_weight),
        ops.where(follows[..., None], teacher_targets[..., BOX], targets.box),
        ops.where(follows[..., None], teacher_targets[..., LANDMARKS], targets.landmarks),
        ops.where(follows, has_box, targets.landmark_mask),
    )


def iou(one: Tensor, other: Tensor) -> Tensor:
    """Compute the intersection over union of boxes with corners in the last axis. Other axes are broadcast."""
    start, end = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    intersection = ops.prod(ops.maximum(end - start, 0.0), axis=-1)
    areas = [ops.prod(ops.maximum(box[..., 2:] - box[..., :2], 0.0), axis=-1) for box in (one, other)]
    return intersection / ops.maximum(areas[0] + areas[1] - intersection, _EPSILON)
