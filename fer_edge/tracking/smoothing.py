"""Smoothing the scores of a face over time, so that single wrong scores do not change the reported emotion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class SmoothingSettings(Protocol):
    """Settings of the smoothing, which are part of the runner's configuration."""

    @property
    def smoothing_s(self) -> float:
        """Time constant of the exponential smoothing, in seconds."""
        ...

    @property
    def margin(self) -> float:
        """Lead that another label's smoothed score must have, 0..1."""
        ...

    @property
    def hold_s(self) -> float:
        """Time for which another label must lead before it is reported, in seconds."""
        ...


def smoothing_weight(elapsed_s: float, smoothing_s: float) -> float:
    """Return the weight of a new value in exponential smoothing, 0..1.

    Args:
        elapsed_s: seconds since the previous value; below 0 counts as 0.
        smoothing_s: time constant in seconds, above 0.
    """
    return 1 - math.exp(-max(elapsed_s, 0) / smoothing_s)


class Smoother:
    """Exponential smoothing of scores over time, with hysteresis on the label.

    Another label is reported when its smoothed score has led by a margin for some time. The weight of new scores
    depends on the time since the previous ones, so the result does not depend on the frame rate.

    Attributes:
        scores: smoothed scores, float32 of shape (labels,), which add up to 1.
        label: index of the reported label.
        settings: time constant, margin and hold time; may be changed at any time.
    """

    def __init__(
        self, scores: npt.NDArray[np.float32], time: float, settings: SmoothingSettings, label: int | None = None
    ) -> None:
        """Start with the first scores.

        Args:
            scores: scores of shape (labels,).
            time: time of the frame, in seconds.
            settings: settings of the smoothing.
            label: index of the label that is reported so far; None for the label with the highest score.
        """
        self.scores, self.settings = scores, settings
        self.label = int(scores.argmax()) if label is None else label
        self._time = time
        self._rival = self.label
        self._rival_since = time

    def update(self, scores: npt.NDArray[np.float32], time: float) -> None:
        """Add new scores.

        Args:
            scores: scores of shape (labels,).
            time: time of the frame, in seconds.
        """
        weight = smoothing_weight(time - self._time, self.settings.smoothing_s)
        self.scores = self.scores + weight * (scores - self.scores)
        self._time = time
        leader = int(self.scores.argmax())
        leads = leader != self.label and self.scores[leader] - self.scores[self.label] >= self.settings.margin
        if not leads or leader != self._rival:
            self._rival, self._rival_since = (leader if leads else self.label), time
        if leads and time - self._rival_since >= self.settings.hold_s:
            self.label = leader
