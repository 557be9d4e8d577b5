"""The times of frames as a player shows them: those of the container, where it has them."""

from __future__ import annotations

from typing import Final

_DEFAULT_RATE: Final = 25.0  # of players and of FFmpeg, for a stream without times
_MAX_RATE: Final = 240.0  # what is above is the unit of time, not a rate
_MAX_DISORDER_S: Final = 1.0  # by which a time may lie before the last one; more is a clock that started again


class Clock:
    """Makes times that never go back."""

    def __init__(self, rate: float) -> None:
        """Start before the first frame.

        Args:
            rate: frames per second, as the stream states them; for frames without a time.
        """
        self._step = 1 / (rate if 0 < rate <= _MAX_RATE else _DEFAULT_RATE)
        self._shift = 0.0
        self._last: float | None = None

    @property
    def last(self) -> float:
        """The time of the last frame; 0 before the first."""
        return self._last or 0.0

    def next(self, time: float | None) -> float:
        """Return the time of the next frame.

        Args:
            time: seconds from the start, as the container has them; None if it has none. Repeated times are kept.
                Parts of a recording that were joined follow one another, though each starts at zero.
        """
        if self._last is None:
            self._last = max(time or 0.0, 0.0)
            return self._last
        following = self._last + self._step
        if time is None:
            self._last = following
        elif time + self._shift < self._last - _MAX_DISORDER_S:
            self._shift = following - time
            self._last = following
        else:
            self._last = max(time + self._shift, self._last)
        return self._last
