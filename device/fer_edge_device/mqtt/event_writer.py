"""Write events to the outbox without making the camera wait for the disk."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from fer_edge_device.messages import Event, State
from fer_edge_device.mqtt.outbox import since_boot
from fer_edge_device.mqtt.outbox_events import NewEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fer_edge_device.messages import Message
    from fer_edge_device.mqtt.outbox import Outbox

_MAX_WAITING: Final = 10_000  # events in memory while the disk hangs


class EventWriter:
    """Writes events from its own thread: all that wait in one transaction, so a frame costs at most one.

    An event counts as reported once it is on the disk, synchronized. Until then it is not published: neither to a
    broker nor, with `wait_until_stored`, a reader of standard output. So a power cut loses no event that was reported.
    """

    def __init__(self, outbox: Outbox, on_stored: Callable[[], None]) -> None:
        """Start the thread.

        Args:
            outbox: stores the events.
            on_stored: called on the thread after each transaction.
        """
        self._outbox, self._on_stored = outbox, on_stored
        self._changed = threading.Condition()
        self._waiting: list[NewEvent] = []
        self._seen: float | None = None
        self._accepted = self._finished = self._lost = 0
        self._closing = self._closed = False
        # A daemon, because a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return the number of events that are not on the disk yet."""
        return self._accepted - self._finished

    def put(self, messages: Sequence[Message]) -> None:
        """Take over the events of a frame, and the time of its state; never waits for the disk."""
        events = [
            NewEvent(
                message.topic,
                message.body(),
                since_boot(),
                message.payload.id,
                message.payload.time,
                message.payload.event_type == "end",
            )
            for message in messages
            if isinstance(message.payload, Event)
        ]
        states = [
            message.payload.time for message in messages if isinstance(message.payload, State) and message.payload.faces
        ]
        if not events and not states:
            return
        with self._changed:
            self._waiting += events
            self._accepted += len(events)
            self._seen = states[-1] if states else self._seen
            if (excess := len(self._waiting) - _MAX_WAITING) > 0:
                del self._waiting[:excess]
                self._lost += excess
            self._changed.notify_all()

    def wait_until_stored(self) -> None:
        """Wait until all events that were taken over so far are on the disk, or the writer is closed."""
        with self._changed:
            goal = self._accepted
            self._changed.wait_for(lambda: self._finished >= goal or self._closed)

    def close(self, timeout: float) -> bool:
        """Write what waits, and end the thread.

        Args:
            timeout: maximum seconds to wait for the disk.

        Returns:
            Whether everything was written.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._seen is not None or self._closing)
                events, self._waiting = self._waiting, []
                seen, self._seen = self._seen, None
                lost, self._lost = self._lost, 0
                goal = self._accepted
                if not events and seen is None:
                    return
            if lost:
                self._outbox.count_dropped(lost)
            self._outbox.put(events, seen)
            with self._changed:
                self._finished = goal
                self._changed.notify_all()
            self._on_stored()
