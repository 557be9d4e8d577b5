"""From the flicker of single frames to an emotion that has held."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class Smoother:
    """Exponential smoothing of scores over time, with hysteresis on the label.

    Another label is reported when its smoothed score has led by a margin for a while; the weight of a frame
    depends on the time since the last, so the result does not depend on the frame rate.

    Attributes:
        scores: smoothed scores, float32 of shape (labels,), adding up to 1.
        label: index of the reported label.
    """

    def __init__(
        self,
        scores: npt.NDArray[np.float32],
        time: float,
        *,
        time_constant: float = 0.4,
        margin: float = 0.1,
        hold: float = 0.3,
    ) -> None:
        """Start with the scores of the first frame.

        Args:
            scores: of shape (labels,).
            time: of the frame, in seconds.
            time_constant: seconds after which a frame's weight has fallen to 1/e.
            margin: least lead of another label's score, 0..1.
            hold: how long it must lead, in seconds.
        """
        self.scores = scores
        self.label = int(scores.argmax())
        self._time, self._time_constant = time, time_constant
        self._margin, self._hold = margin, hold
        self._rival = self.label
        self._rival_since = time

    def update(self, scores: npt.NDArray[np.float32], time: float) -> bool:
        """Take in the scores of a frame.

        Returns:
            Whether the reported label changed.
        """
        weight = 1 - math.exp(-max(time - self._time, 0) / self._time_constant)
        self.scores = self.scores + weight * (scores - self.scores)
        self._time = time
        leader = int(self.scores.argmax())
        leads = leader != self.label and self.scores[leader] - self.scores[self.label] >= self._margin
        if not leads or leader != self._rival:
            self._rival, self._rival_since = (leader if leads else self.label), time
        if leads and time - self._rival_since >= self._hold:
            self.label = leader
            return True
        return False
