"""Scores that are right as often as they say, fitted on faces that were not trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

if TYPE_CHECKING:
    import numpy.typing as npt

_SPREAD: Final = 0.5  # of a bias as it is expected before any face is seen: a rare class has few to fit it by


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """What logits are divided by, and what each class's are raised by then.

    Attributes:
        temperature: above 1 makes scores less sure.
        biases: float32 of shape (classes,); they make up for targets that see more of a class than its labels do, as
            the votes of FER+ see more neutral faces.
    """

    temperature: float
    biases: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, logits: npt.NDArray[np.float32], classes: npt.NDArray[np.int64]) -> Calibration:
        """What makes the classes likeliest.

        Bias-corrected temperature scaling (Alexandari et al. 2020, arXiv:1901.06852).

        Args:
            logits: shape (n, classes).
            classes: the true class of each, of shape (n,).
        """
        rows, exact = np.arange(len(classes)), logits.astype(np.float64)  # whose differences give the slope

        def loss(parameters: npt.NDArray[np.float64]) -> float:
            scores = log_softmax(exact / math.exp(parameters[0]) + parameters[1:], axis=1)
            unlikely = np.square(parameters[1:] / _SPREAD).sum() / 2
            return float((unlikely - scores[rows, classes].sum()) / len(classes))

        bounds = [(-2.0, 2.0)] * (1 + logits.shape[1])
        found = minimize(loss, np.zeros(len(bounds)), method="L-BFGS-B", bounds=bounds).x
        return cls(math.exp(found[0]), np.asarray(found[1:] - found[1:].mean(), np.float32))

    def undone(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What scores were before, of shape (n, classes)."""
        logits = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        return np.asarray(softmax((logits - self.biases) * self.temperature, axis=1), np.float32)
