"""Delays between attempts to connect."""

from __future__ import annotations

import random


class Backoff:
    """Delays that grow with each failure, at random.

    Each is drawn between the minimum and three times the previous one ("decorrelated jitter": M. Brooker, Exponential
    Backoff And Jitter, AWS Architecture Blog, 2015), so that devices that lost a broker together do not return to it
    together. The maximum is short, because a broker that restarts a few times must not be left alone for a minute.
    """

    def __init__(self, min_delay: float, max_delay: float) -> None:
        """Start with the minimum; both are in seconds."""
        self._min_delay, self._max_delay = min_delay, max_delay
        self._delay = min_delay

    def next_delay(self) -> float:
        """Return the seconds to wait after one more failure."""
        self._delay = min(self._max_delay, random.uniform(self._min_delay, 3 * self._delay))  # noqa: S311 - not secret
        return self._delay

    def reset(self) -> None:
        """Start with the minimum again."""
        self._delay = self._min_delay
