"""Calibration: a score of 0.8 should be right four times in five. It is fitted on held-out faces."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

if TYPE_CHECKING:
    import numpy.typing as npt

_BIAS_SPREAD: Final = 0.5  # standard deviation of a bias before any face is seen: a rare class has few faces to fit it


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """Calibrated scores are the softmax of logits / temperature + biases.

    Attributes:
        temperature: above 1, it makes scores less confident.
        biases: float32 of shape (classes,). They correct for targets that contain more of a class than the labels do;
            the votes of FER+, for example, contain more neutral faces.
    """

    temperature: float
    biases: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, logits: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> Calibration:
        """Fit temperature and biases by maximum likelihood.

        This is bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852).

        Args:
            logits: shape (n, classes).
            classes: true class of each face, of shape (n,).
        """
        return cls.fit_targets(logits, np.eye(logits.shape[1], dtype=np.float32)[classes])

    @classmethod
    def fit_targets(
        cls, logits: npt.NDArray[np.float32], targets: npt.NDArray[np.float32], temperature_spread: float = math.inf
    ) -> Calibration:
        """Fit temperature and biases to weighted probabilities instead of classes.

        Args:
            logits: shape (n, classes).
            targets: probability of each class, times the weight of the face, of shape (n, classes).
            temperature_spread: standard deviation of the logarithm of the temperature before any face is seen; for
                few faces, and scores that are nearly calibrated.
        """
        exact, total = logits.astype(np.float64), float(targets.sum())  # slopes are differences of nearby values

        def loss(parameters: npt.NDArray[np.float64]) -> float:
            scores = log_softmax(exact / math.exp(parameters[0]) + parameters[1:], axis=1)
            penalty = np.square(parameters[1:] / _BIAS_SPREAD).sum() / 2 + (parameters[0] / temperature_spread) ** 2 / 2
            return float((penalty - (targets * scores).sum()) / total)

        bounds = [(-2.0, 2.0)] * (1 + logits.shape[1])
        best = minimize(loss, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds).x
        return cls(math.exp(best[0]), np.asarray(best[1:] - best[1:].mean(), np.float32))

    def undo(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the scores before calibration, of shape (n, classes)."""
        logits = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        return np.asarray(softmax((logits - self.biases) * self.temperature, axis=1), np.float32)
