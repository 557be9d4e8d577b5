"""What the detector minimises, and which cell answers for which face, in any Keras backend."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import keras
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
    SEEN,
    WEIGHT,
)

Tensor = Any  # of whichever backend

_LEAST: Final = 1e-9
_FOCUS: Final = 2.0  # the exponent of Li et al. 2020, their best
_SMOOTH: Final = 0.05  # of a face's side: where the landmarks' loss goes from square to linear


class RawDetections(NamedTuple):
    """What all cells of a square image know without looking at it.

    Attributes:
        centres: x and y, in pixels, float32 of shape (cells, 2).
        strides: pixels between neighbours, float32 of shape (cells, 1).
    """

    centres: Tensor
    strides: Tensor


def cells_of(side: int) -> RawDetections:
    """The cells of a square image of ``side`` pixels, finest level first, each level by rows."""
    centres, strides = [], []
    for stride in STRIDES:
        middle = (np.arange(side // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(middle, middle, indexing="ij")
        centres.append(np.stack((x, y), axis=-1).reshape(-1, 2))
        strides.append(np.full((x.size, 1), stride, np.float32))
    return RawDetections(ops.convert_to_tensor(np.concatenate(centres)), ops.convert_to_tensor(np.concatenate(strides)))


@keras.saving.register_keras_serializable("fer_edge")
class FacesLoss(keras.losses.Loss):
    """Scores, boxes and landmarks of all cells against the faces of each scene.

    Which cells answer for a face follows from what they say: task alignment learning (Feng et al. 2021,
    arXiv:2108.07755).  Scores learn by the quality focal loss (Li et al. 2020, arXiv:2006.04388), their goal being the
    overlap times the labelling detector's own score; where a teacher tells of every cell, what it says; boxes by the
    efficient IoU loss (Zhang et al. 2021, arXiv:2101.08158); landmarks by a smooth L1 loss (Girshick 2015,
    arXiv:1504.08083) over the face's side.
    """

    def __init__(
        self,
        side: int,
        *,
        taught: bool = False,
        candidates: int = 10,
        score_power: float = 0.5,
        overlap_power: float = 6.0,
        box: float = 2.0,
        landmarks: float = 1.0,
        **kwargs: Any,  # noqa: ANN401 - Keras's own
    ) -> None:
        """Take what there is to know.

        Args:
            side: of the images, in pixels.
            taught: whether a teacher's answers come before what is marked.
            candidates: this and the rest as in `fer_edge_train.faces.detector_recipe.Loss`.
            score_power: likewise.
            overlap_power: likewise.
            box: likewise.
            landmarks: likewise.
            kwargs: Keras's own.
        """
        super().__init__(**kwargs)
        self._side, self._taught, self._candidates = side, taught, candidates
        self._powers = {"score_power": score_power, "overlap_power": overlap_power}
        self._weights = {"box": box, "landmarks": landmarks}

    def get_config(self) -> dict[str, Any]:
        """What makes it anew."""
        own = {"side": self._side, "taught": self._taught, "candidates": self._candidates}
        return {**super().get_config(), **own, **self._powers, **self._weights}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """One number for a batch.

        Args:
            y_true: as `fer_edge_train.faces.scenes.batch` makes it.
            y_pred: as the training model gives it.
        """
        cells = cells_of(self._side)
        logits, boxes = y_pred[..., 0], decoded(y_pred[..., 1:5], cells)
        told = cells.strides.shape[0] if self._taught else 0
        goals = assign(
            y_true[:, told:],
            ops.stop_gradient(ops.sigmoid(logits)),
            ops.stop_gradient(boxes),
            cells,
            candidates=self._candidates,
            **self._powers,
        )
        if told:
            goals = guided(goals, y_true[:, :told])
        total = ops.maximum(ops.sum(goals.score), 1.0)
        score = ops.sum(quality_focal(logits, goals.score) * goals.counts)
        box = ops.sum(efficient_iou(boxes, goals.box) * goals.fits)
        points = y_pred[..., 5:] * cells.strides + ops.tile(cells.centres, (1, 5))
        sides = ops.maximum(goals.box[..., 2:] - goals.box[..., :2], 1.0)
        apart = ops.abs(points - goals.landmarks) / ops.max(sides, axis=-1, keepdims=True)
        smooth = ops.where(apart < _SMOOTH, ops.square(apart) / (2 * _SMOOTH), apart - _SMOOTH / 2)
        landmarks = ops.sum(ops.mean(smooth, axis=-1) * goals.fits * goals.has_landmarks)
        # Scaled so that the three weigh about the same at weights of one.
        return (score + self._weights["box"] * box + self._weights["landmarks"] * 10 * landmarks) / total


class Goals(NamedTuple):
    """What each cell should say.

    Attributes:
        score: 0 where it answers for no face, of shape (n, cells).
        counts: 1, or 0 where neither face nor background is known, of the same shape.
        fits: how much it counts where it says that the face is, of the same shape.
        box: left, top, right and bottom, in pixels, of shape (n, cells, 4); zeros without a face.
        landmarks: five points, in pixels, of shape (n, cells, 10).
        has_landmarks: 1 or 0, of shape (n, cells).
    """

    score: Tensor
    counts: Tensor
    fits: Tensor
    box: Tensor
    landmarks: Tensor
    has_landmarks: Tensor


def decoded(box: Tensor, cells: RawDetections) -> Tensor:
    """Corners, in pixels, of shape (n, cells, 4), of boxes as cells tell of them."""
    middle = box[..., :2] * cells.strides + cells.centres
    half = ops.exp(ops.clip(box[..., 2:], -4.0, 4.0)) * cells.strides / 2
    return ops.concatenate((middle - half, middle + half), axis=-1)


def assign(
    truth: Tensor,
    scores: Tensor,
    boxes: Tensor,
    cells: RawDetections,
    *,
    candidates: int,
    score_power: float,
    overlap_power: float,
) -> Goals:
    """Give each face the cells that tell of it best.

    Args:
        truth: as `fer_edge_train.faces.detector_targets.packed` makes it, of shape (n, rows, 16).
        scores: what the cells say now, 0..1, of shape (n, cells).
        boxes: corners, in pixels, of shape (n, cells, 4).
        cells: where they are.
        candidates: cells that each face may have at most.
        score_power: exponent of the score in a cell's claim to a face.
        overlap_power: exponent of the overlap in that claim.
    """
    kind = truth[..., KIND]
    face = ops.logical_or(ops.equal(kind, FACE), ops.equal(kind, FACE_WITHOUT_LANDMARKS))
    corners = truth[..., BOX]
    # A face between cells' centres belongs to those around it.
    middle, half = (corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]) / 2
    reach = ops.maximum(half, 0.55 * STRIDES[0])
    near = ops.all(ops.abs(cells.centres - middle[:, :, None]) < reach[:, :, None], axis=-1)
    inside = ops.cast(ops.logical_and(near, face[..., None]), "float32")
    overlap = overlaps(corners[:, :, None], boxes[:, None]) * inside
    claim = (scores[:, None] + _LEAST) ** score_power * overlap**overlap_power
    count = min(candidates, cells.strides.shape[0])
    least = ops.top_k(claim, count, sorted=True)[0][..., -1:]
    claimed = inside * ops.cast(claim >= ops.maximum(least, _LEAST**4), "float32")
    # A cell that two faces claim goes to the one that it overlaps more.
    owner = ops.argmax(overlap * claimed - (1 - claimed), axis=1)
    rows = ops.arange(ops.shape(truth)[1], dtype=owner.dtype)
    given = claimed * ops.cast(ops.equal(owner[:, None], rows[:, None]), "float32")
    claim, overlap = claim * given, overlap * given
    # The best cell of a face aims at its overlap, others in proportion.
    best = ops.max(overlap, axis=-1, keepdims=True) / ops.maximum(ops.max(claim, axis=-1, keepdims=True), _LEAST**4)
    score = ops.sum(claim * best * truth[..., WEIGHT, None], axis=1)
    ignored = ops.logical_and(
        ops.all(cells.centres >= corners[:, :, None, :2], axis=-1),
        ops.all(cells.centres <= corners[:, :, None, 2:], axis=-1),
    )
    ignored = ops.any(ops.logical_and(ignored, ops.equal(kind, IGNORED)[..., None]), axis=1)
    answers = ops.any(given > 0, axis=1)
    # Not as a product with ``given``, which a GPU may calculate in TF32: to an eighth of a pixel from 128 on.
    known = ops.take_along_axis(truth, owner[..., None], axis=1) * ops.cast(answers, "float32")[..., None]
    return Goals(
        score,
        ops.cast(ops.logical_or(answers, ops.logical_not(ignored)), "float32"),
        score,
        known[..., BOX],
        known[..., LANDMARKS],
        ops.cast(ops.equal(known[..., KIND], FACE), "float32"),
    )


def guided(goals: Goals, told: Tensor) -> Goals:
    """What each cell should say where a teacher tells of it: that, unless it misses a face that is marked.

    Args:
        goals: by what is marked.
        told: `fer_edge_train.faces.yunet_teacher.answers` of each scene, of shape (n, cells, 16).
    """
    weight = told[..., WEIGHT]
    follows = weight >= goals.score
    firm = ops.cast(ops.equal(told[..., KIND], FACE), "float32")
    return Goals(
        ops.maximum(weight, goals.score),
        ops.maximum(goals.counts, ops.cast(weight >= SEEN, "float32")),
        ops.where(follows, weight * firm, goals.fits),
        ops.where(follows[..., None], told[..., BOX], goals.box),
        ops.where(follows[..., None], told[..., LANDMARKS], goals.landmarks),
        ops.where(follows, firm, goals.has_landmarks),
    )


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of boxes given by their corners in the last axis; other axes are broadcast."""
    begin, end = ops.maximum(one[..., :2], other[..., :2]), ops.minimum(one[..., 2:], other[..., 2:])
    shared = ops.prod(ops.maximum(end - begin, 0.0), axis=-1)
    areas = [ops.prod(ops.maximum(box[..., 2:] - box[..., :2], 0.0), axis=-1) for box in (one, other)]
    return shared / ops.maximum(areas[0] + areas[1] - shared, _LEAST)


def quality_focal(logits: Tensor, goals: Tensor) -> Tensor:
    """The quality focal loss of Li et al. 2020: cross-entropy, times how far a score is from its goal, squared."""
    entropy = ops.maximum(logits, 0.0) - logits * goals + ops.log1p(ops.exp(-ops.abs(logits)))
    return entropy * ops.abs(goals - ops.sigmoid(logits)) ** _FOCUS


def efficient_iou(boxes: Tensor, goals: Tensor) -> Tensor:
    """The efficient IoU loss of Zhang et al. 2021, for boxes given by their corners in the last axis.

    One less the overlap, plus the squared distances of the middles, of the widths and of the heights, each over the
    square of what a box around both measures.
    """
    around = ops.maximum(boxes[..., 2:], goals[..., 2:]) - ops.minimum(boxes[..., :2], goals[..., :2])
    around = ops.square(around) + _LEAST
    middles = ops.square(boxes[..., :2] + boxes[..., 2:] - goals[..., :2] - goals[..., 2:]) / 4
    sides = ops.square(boxes[..., 2:] - boxes[..., :2] - goals[..., 2:] + goals[..., :2])
    distance = ops.sum(middles, axis=-1) / ops.sum(around, axis=-1)
    return 1 - overlaps(boxes, goals) + distance + ops.sum(sides / around, axis=-1)
