"""The loss of the detector, in any Keras backend."""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import ops

from fer_edge_train.faces.detector_assignment import assign, cell_grid, decode_boxes, follow_teacher, iou

Tensor = Any  # of whichever backend

_EPSILON: Final = 1e-9
_FOCUS: Final = 2.0  # exponent; the best one of Li et al. 2020
_SMOOTH_L1_BETA: Final = 0.05  # divided by a face's side: where the loss of landmarks turns from square to linear


@keras.saving.register_keras_serializable("fer_edge")
class DetectorLoss(keras.losses.Loss):
    """Loss of the scores, boxes and landmarks of all cells.

    `assign` chooses the cells for each face. Scores learn by the quality focal loss (Li et al. 2020,
    arXiv:2006.04388): their target is the overlap times the score of the labelling detector or, with a teacher, the
    teacher's score. Boxes learn by the efficient IoU loss (Zhang et al. 2021, arXiv:2101.08158), and landmarks by a
    smooth L1 loss (Girshick 2015, arXiv:1504.08083) of their distance divided by the face's side.
    """

    def __init__(
        self,
        side: int,
        *,
        with_teacher: bool = False,
        candidates: int = 10,
        score_power: float = 0.5,
        overlap_power: float = 6.0,
        box: float = 2.0,
        landmarks: float = 1.0,
        **kwargs: Any,  # noqa: ANN401 - Keras's own
    ) -> None:
        """Set the options.

        Args:
            side: side of the images, in pixels.
            with_teacher: whether a teacher's targets precede the annotations.
            candidates: this and the rest are those of `fer_edge_train.faces.detector_recipe.DetectorLossOptions`.
            score_power: see there.
            overlap_power: see there.
            box: see there.
            landmarks: see there.
            kwargs: options of `keras.losses.Loss`.
        """
        super().__init__(**kwargs)
        self._side, self._with_teacher, self._candidates = side, with_teacher, candidates
        self._powers = {"score_power": score_power, "overlap_power": overlap_power}
        self._weights = {"box": box, "landmarks": landmarks}

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        own = {"side": self._side, "with_teacher": self._with_teacher, "candidates": self._candidates}
        return {**super().get_config(), **own, **self._powers, **self._weights}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Compute one number for a batch.

        Args:
            y_true: result of `fer_edge_train.faces.scenes.make_scene_batch`.
            y_pred: output of the training model.
        """
        grid = cell_grid(self._side)
        logits, boxes = y_pred[..., 0], decode_boxes(y_pred[..., 1:5], grid)
        teacher_rows = grid.strides.shape[0] if self._with_teacher else 0
        targets = assign(
            y_true[:, teacher_rows:],
            ops.stop_gradient(ops.sigmoid(logits)),
            ops.stop_gradient(boxes),
            grid,
            candidates=self._candidates,
            **self._powers,
        )
        if teacher_rows:
            targets = follow_teacher(targets, y_true[:, :teacher_rows])
        total = ops.maximum(ops.sum(targets.score), 1.0)
        score = ops.sum(quality_focal_loss(logits, targets.score) * targets.score_mask)
        box = ops.sum(efficient_iou_loss(boxes, targets.box) * targets.box_weight)
        points = y_pred[..., 5:] * grid.strides + ops.tile(grid.centres, (1, 5))
        sides = ops.maximum(targets.box[..., 2:] - targets.box[..., :2], 1.0)
        error = ops.abs(points - targets.landmarks) / ops.max(sides, axis=-1, keepdims=True)
        smooth = ops.where(
            error < _SMOOTH_L1_BETA, ops.square(error) / (2 * _SMOOTH_L1_BETA), error - _SMOOTH_L1_BETA / 2
        )
        landmarks = ops.sum(ops.mean(smooth, axis=-1) * targets.box_weight * targets.landmark_mask)
        # With this factor the three losses are of similar size if their weights are one.
        return (score + self._weights["box"] * box + self._weights["landmarks"] * 10 * landmarks) / total


def quality_focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the quality focal loss of Li et al. 2020: cross-entropy times the squared error of the score."""
    entropy = ops.maximum(logits, 0.0) - logits * targets + ops.log1p(ops.exp(-ops.abs(logits)))
    return entropy * ops.abs(targets - ops.sigmoid(logits)) ** _FOCUS


def efficient_iou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Compute the efficient IoU loss of Zhang et al. 2021 for boxes with corners in the last axis.

    It is 1 - IoU, plus the squared distances of centres, widths and heights, each divided by the square of the
    corresponding measure of the smallest box around both.
    """
    around = ops.maximum(boxes[..., 2:], targets[..., 2:]) - ops.minimum(boxes[..., :2], targets[..., :2])
    around = ops.square(around) + _EPSILON
    centres = ops.square(boxes[..., :2] + boxes[..., 2:] - targets[..., :2] - targets[..., 2:]) / 4
    sides = ops.square(boxes[..., 2:] - boxes[..., :2] - targets[..., 2:] + targets[..., :2])
    distance = ops.sum(centres, axis=-1) / ops.sum(around, axis=-1)
    return 1 - iou(boxes, targets) + distance + ops.sum(sides / around, axis=-1)
