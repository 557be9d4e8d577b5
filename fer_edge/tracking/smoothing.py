"""From the flicker of single looks to an emotion that has held."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class SmoothingSettings(Protocol):
    """How scores are smoothed; the runner's configuration has these values."""

    @property
    def smoothing_s(self) -> float:
        """Time constant of the exponential smoothing, in seconds."""
        ...

    @property
    def margin(self) -> float:
        """How far another label's smoothed score must lead, 0..1."""
        ...

    @property
    def hold_s(self) -> float:
        """How long it must lead before it is reported, in seconds."""
        ...


class Smoother:
    """Exponential smoothing of scores over time, with hysteresis on the label.

    Another label is reported when its smoothed score has led by a margin for a while; the weight of a look
    depends on the time since the last, so the result does not depend on how often somebody looks.

    Attributes:
        scores: smoothed scores, float32 of shape (labels,), adding up to 1.
        label: index of the reported label.
        settings: time constant, margin and hold; may be changed at any time.
    """

    def __init__(
        self, scores: npt.NDArray[np.float32], time: float, settings: SmoothingSettings, label: int | None = None
    ) -> None:
        """Start with the scores of the first look.

        Args:
            scores: of shape (labels,).
            time: of the frame, in seconds.
            settings: ``smoothing_s``, ``margin`` and ``hold_s`` of them.
            label: index of what is reported so far; the highest score's without.
        """
        self.scores, self.settings = scores, settings
        self.label = int(scores.argmax()) if label is None else label
        self._time = time
        self._rival = self.label
        self._rival_since = time

    def update(self, scores: npt.NDArray[np.float32], time: float) -> None:
        """Take in the scores of a look."""
        weight = 1 - math.exp(-max(time - self._time, 0) / self.settings.smoothing_s)
        self.scores = self.scores + weight * (scores - self.scores)
        self._time = time
        leader = int(self.scores.argmax())
        leads = leader != self.label and self.scores[leader] - self.scores[self.label] >= self.settings.margin
        if not leads or leader != self._rival:
            self._rival, self._rival_since = (leader if leads else self.label), time
        if leads and time - self._rival_since >= self.settings.hold_s:
            self.label = leader
