"""The loss of the second stage, in any Keras backend."""

from __future__ import annotations

from typing import Any, Final

import keras
from keras import ops

from fer_edge_train.faces.refiner_proposals import BOX, BOX_WEIGHT, POINTS, POINTS_WEIGHT, SCORE

Tensor = Any  # of whichever backend

_SMOOTH_L1_BETA: Final = 0.05  # divided by the square's side: where the loss turns from square to linear


@keras.saving.register_keras_serializable("fer_edge")
class RefinerLoss(keras.losses.Loss):
    """Loss of the scores, boxes and landmarks of squares.

    Scores learn the teacher's scores by cross-entropy, as in Hinton et al. 2015 (arXiv:1503.02531). Boxes and
    landmarks, in squares with a face, learn by a smooth L1 loss (Girshick 2015, arXiv:1504.08083).
    """

    def __init__(self, box: float = 3.0, landmarks: float = 2.0, **kwargs: Any) -> None:  # noqa: ANN401 - Keras's own
        """Set the weights of boxes and landmarks, relative to that of the scores."""
        super().__init__(**kwargs)
        self._box, self._landmarks = box, landmarks

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "box": self._box, "landmarks": self._landmarks}

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Compute one number for each square.

        Args:
            y_true: `fer_edge_train.faces.refiner_proposals.Proposals.targets`.
            y_pred: output of the training model.
        """
        logit, target = y_pred[:, SCORE], y_true[:, SCORE]
        score = ops.maximum(logit, 0) - logit * target + ops.log1p(ops.exp(-ops.abs(logit)))
        box = ops.sum(_smooth_l1(y_pred[:, BOX] - y_true[:, BOX]), axis=1) * y_true[:, BOX_WEIGHT]
        points = ops.mean(_smooth_l1(y_pred[:, POINTS] - y_true[:, POINTS]), axis=1) * y_true[:, POINTS_WEIGHT]
        return score + self._box * box + self._landmarks * points


def _smooth_l1(error: Tensor) -> Tensor:
    error = ops.abs(error)
    return ops.where(error < _SMOOTH_L1_BETA, ops.square(error) / (2 * _SMOOTH_L1_BETA), error - _SMOOTH_L1_BETA / 2)
