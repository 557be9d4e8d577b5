"""What the page shows now: filled by the runner's thread, read by the server's.

The runner never waits for the server. While nobody looks, it gives no frames, so they cost nothing.
"""

from __future__ import annotations

import threading
import time as clock
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from fer_edge_device.messages import Event, Info, State, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fer_edge_device.live_settings import LiveSettings
    from fer_edge_device.messages import Kind, Message, VisibleFace

_MAX_EVENTS: Final = 100
_STATUSES: Final[tuple[Kind, ...]] = ("availability", "camera", "enabled/state")
_FRAME_INTERVAL_S: Final = 0.2  # between two frames that are shown
_HIDDEN_S: Final = 1.0
_WANTED_S: Final = 5.0  # for which a request for one image counts as looking


class ShownFrame(NamedTuple):
    """A frame that is to be shown.

    Attributes:
        number: counts the frames that were shown, from 1.
        gray: uint8 of shape (rows, columns).
        faces: the faces in it.
        hidden: boxes, as in `VisibleFace`, of these faces and of those of the last second: a face that the detector
            misses for a moment is hidden as well.
    """

    number: int
    gray: npt.NDArray[np.uint8]
    faces: tuple[VisibleFace, ...]
    hidden: tuple[tuple[float, float, float, float], ...]


class NumberedEvent(NamedTuple):
    """An event, and its position among all of this run, from 1."""

    number: int
    event: Event


class LiveView:
    """The latest messages of a runner and the latest frame; thread-safe.

    Attributes:
        on_change: called from the runner's thread when something is new; must return at once.
    """

    def __init__(self) -> None:
        """Start without messages."""
        self.on_change: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._statuses: dict[str, str] = {}
        self._state: State | None = None
        self._stats: Stats | None = None
        self._info: Info | None = None
        self._settings: LiveSettings | None = None
        self._events: deque[NumberedEvent] = deque(maxlen=_MAX_EVENTS)
        self._event_counts: dict[str, int] = {"new": 0, "update": 0, "end": 0}
        self._frame: ShownFrame | None = None
        self._recent: list[tuple[float, tuple[float, float, float, float]]] = []
        self._frames = 0
        self._viewers = 0
        self._wanted_until = self._shown_at = self._next_frame_at = 0.0

    def observe(self, *messages: Message) -> None:
        """Take over messages; see `fer_edge_device.sinks.Observer`."""
        with self._lock:
            for message in messages:
                payload = message.payload
                if isinstance(payload, Event):
                    number = self._events[-1].number + 1 if self._events else 1
                    self._events.append(NumberedEvent(number, payload))
                    self._event_counts[payload.event_type] += 1
                elif isinstance(payload, State):
                    self._state = payload
                elif isinstance(payload, Stats):
                    self._stats = payload
                elif isinstance(payload, Info):
                    self._info = payload
                elif isinstance(payload, str):
                    self._statuses |= {kind: payload for kind in _STATUSES if message.is_of(kind)}
                else:
                    self._settings = payload
            if not self._enabled:
                self._frame = None
        self.on_change()

    def wants_frame(self) -> bool:
        """Return whether somebody looks, and the last frame was shown long enough ago."""
        now = clock.monotonic()
        return (self._viewers > 0 or now < self._wanted_until) and now >= self._next_frame_at

    def show(self, gray: npt.NDArray[np.uint8], faces: Sequence[VisibleFace]) -> None:
        """Show a frame.

        Args:
            gray: uint8 of shape (rows, columns); it is copied.
            faces: the faces in it.
        """
        with self._lock:
            if not self._enabled:
                return
            now = clock.monotonic()
            self._recent = [(time, box) for time, box in self._recent if now - time < _HIDDEN_S]
            self._recent += [(now, face.box) for face in faces]
            self._frames += 1
            self._frame = ShownFrame(self._frames, np.array(gray), tuple(faces), tuple(box for _, box in self._recent))
            self._shown_at, self._next_frame_at = now, now + _FRAME_INTERVAL_S
        self.on_change()

    def add_viewer(self, change: int) -> None:
        """Count a viewer who has come (1) or gone (-1)."""
        with self._lock:
            self._viewers += change
            if not self._viewers:
                self._frame = None

    def ask_for_frame(self) -> None:
        """Let frames be shown for some seconds, as if somebody looked."""
        self._wanted_until = clock.monotonic() + _WANTED_S

    @property
    def enabled(self) -> bool:
        """Whether the privacy switch is on."""
        with self._lock:
            return self._enabled

    @property
    def is_off(self) -> bool:
        """Whether the runner has said that it is switched off; before its first message, it is neither on nor off."""
        with self._lock:
            return self._statuses.get("enabled/state") == "OFF"

    @property
    def frame(self) -> ShownFrame | None:
        """The latest frame; None if it is old, nobody looks, or the camera is off."""
        with self._lock:
            if self._frame and clock.monotonic() - self._shown_at > _WANTED_S:
                self._frame = None
            return self._frame

    def events_after(self, number: int) -> list[NumberedEvent]:
        """Return the events after the one with a number, as far as they are kept."""
        with self._lock:
            return [each for each in self._events if each.number > number]

    def snapshot(self) -> dict[str, Any]:
        """Return the latest messages."""
        with self._lock:
            return {
                "availability": self._statuses.get("availability", "offline"),
                "enabled": self._enabled if "enabled/state" in self._statuses else None,  # not known yet
                "camera": self._statuses.get("camera", "offline"),
                "info": self._info,
                "state": self._state,
                "stats": self._stats,
                "settings": self._settings,
                "events": dict(self._event_counts),
            }

    @property
    def _enabled(self) -> bool:
        return self._statuses.get("enabled/state") == "ON"
