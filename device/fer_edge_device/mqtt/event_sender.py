"""Send the events of the outbox to the broker."""

from __future__ import annotations

import logging
import time as clock
from collections import deque
from typing import TYPE_CHECKING, Final

from fer_edge_device.mqtt.failures import refusal_advice

if TYPE_CHECKING:
    from fer_edge_device.mqtt.broker import Broker
    from fer_edge_device.mqtt.connection import Connection, PublishAck
    from fer_edge_device.mqtt.outbox import Outbox
    from fer_edge_device.mqtt.outbox_events import StoredEvent

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS: Final = 5  # at sending an event that the broker refuses
_BATCH: Final = 20  # events that are read from the outbox at a time
_IDLE_WAIT: Final = 1.0  # seconds to wait when nothing is to be sent
_DELETE_INTERVAL: Final = (
    0.5  # seconds between deletions of delivered events: fewer writes, but a crash may repeat some
)


class RateLimit:
    """The rate of events that all senders share.

    Attributes:
        interval: minimum seconds between two events.
        next_time: when the next event may be sent, on the monotonic clock.
    """

    def __init__(self, interval: float) -> None:
        """Allow the first event at once."""
        self.interval, self.next_time = interval, clock.monotonic()


class EventSender:
    """Sends events in order and at a limited rate, and drops one that the broker refuses again and again.

    After a refusal, or when the connection ends with events in flight, it sends one event at a time until one is
    accepted. So the events after a refused one wait with it, and it is clear which event makes the broker close the
    connection.
    """

    def __init__(
        self,
        outbox: Outbox,
        topic: str,
        broker: Broker,
        *,
        suffix: str,
        rate_limit: RateLimit,
        backoff: tuple[float, float],
    ) -> None:
        """Send nothing yet.

        Args:
            outbox: the stored events.
            topic: the node's event topic.
            broker: the broker, for the log.
            suffix: what follows the topic of an event; empty: fresh events are sent, otherwise the others.
            rate_limit: limits the rate.
            backoff: minimum and maximum seconds before a refused event is sent again.
        """
        self._outbox, self._topic, self._suffix, self._rate_limit = outbox, topic, suffix, rate_limit
        self._broker, self._backoff = broker, backoff
        self._waiting: deque[StoredEvent] = deque()
        self._last_id = 0
        self._in_flight: dict[int, StoredEvent] = {}
        self._delivered: list[int] = []
        self._one_at_a_time = self._restart = False
        self._refused_id = self._attempts = 0
        self._delay = 0.0
        self._logged: set[str] = set()
        self._deleted_at = self._retry_time = clock.monotonic()

    @property
    def pending(self) -> bool:
        """Whether events are still to be sent and none of them was refused."""
        return bool(self._waiting) and not self._attempts

    @property
    def in_doubt(self) -> bool:
        """Whether the event in flight may be one that makes the broker close the connection."""
        return self._one_at_a_time and bool(self._in_flight)

    @property
    def oldest_in_flight(self) -> int | None:
        """Smallest id of the events that are in flight, or delivered and still in the outbox; None without any."""
        return min([*self._delivered, *(event.id for event in self._in_flight.values())], default=None)

    def send(self, connection: Connection, room: int, before_id: int | None = None) -> float:
        """Send the event that is due.

        Args:
            connection: the present connection.
            room: how many messages may be sent.
            before_id: for events that are no longer fresh, only those with a smaller id are sent; None: no limit.

        Returns:
            Seconds until the next event may be due.
        """
        now = clock.monotonic()
        if now - self._deleted_at >= _DELETE_INTERVAL:
            self._delete_delivered()
            self._deleted_at = now
        if self._restart and not self._in_flight:
            self._start_over()
        if not self._suffix and self._waiting and self._outbox.seconds_fresh(self._waiting[0]) <= 0:
            self._waiting.clear()  # no longer fresh
        if not self._waiting and not self._restart:
            self._waiting.extend(self._read(1 if self._one_at_a_time else _BATCH, before_id))
        if self._may_send(connection, room) and now >= self._next_time:
            event = self._waiting.popleft()
            left = None if self._suffix else self._outbox.seconds_fresh(event)
            number = connection.send(event.topic + self._suffix, event.payload, 1, retain=False, expires_in=left)
            self._in_flight[number] = event
            self._last_id, self._rate_limit.next_time = event.id, now + self._rate_limit.interval
            room -= 1
        wait = _DELETE_INTERVAL if self._delivered else _IDLE_WAIT
        if self._may_send(connection, room):
            wait = min(wait, max(self._next_time - now, 0.0))
        return wait

    def handle_ack(self, ack: PublishAck) -> bool:
        """Handle an acknowledgement and return whether it was for an event."""
        event = self._in_flight.pop(ack.message_id, None)
        if event is None:
            return False
        if not ack.refusal:
            self._delivered.append(event.id)
        if self._restart:  # of the events in flight, only the first refusal counts
            return True
        if ack.refusal:
            self._one_at_a_time = self._restart = True
            advice = refusal_advice(self._broker.address.user, [event.topic + self._suffix], ack.refusal)
            self._log_once(
                f"refuses events ({ack.refusal}); {advice}. Each event is sent up to {_MAX_ATTEMPTS} times, then"
                " dropped"
            )
            # Events of an earlier name of the node must not delay its own.
            self._fail(event, _MAX_ATTEMPTS if event.topic == self._topic else 1)
        else:
            if self._attempts:
                self._logged.clear()  # the problem is solved
            self._one_at_a_time, self._attempts, self._delay = False, 0, 0.0
        return True

    def connection_ended(self, close_reason: str) -> None:
        """Start over with the oldest undelivered event.

        Args:
            close_reason: how the broker closed the connection, if a message may have caused that; otherwise empty.
        """
        in_flight = list(self._in_flight.values())
        self._in_flight.clear()
        is_suspect = close_reason and self._one_at_a_time and not self._restart and in_flight
        if is_suspect and self._fail(in_flight[0]):
            advice = refusal_advice(self._broker.address.user, [self._topic + self._suffix], close_reason)
            self._log_once(
                f"closed the connection {_MAX_ATTEMPTS} times at the same event ({close_reason}), which was dropped;"
                f" {advice}"
            )
        self._one_at_a_time = self._one_at_a_time or bool(in_flight)
        self._start_over()

    @property
    def _next_time(self) -> float:
        return max(self._retry_time, self._rate_limit.next_time)

    def _read(self, limit: int, before_id: int | None) -> list[StoredEvent]:
        if self._suffix:
            return self._outbox.backlog(self._last_id, limit, before_id)
        return self._outbox.fresh(self._last_id, limit)

    def _may_send(self, connection: Connection, room: int) -> bool:
        may_add = connection.idle if self._one_at_a_time else room > 0
        return bool(self._waiting) and not self._restart and may_add

    def _start_over(self) -> None:
        """Continue with the oldest undelivered event."""
        self._delete_delivered()
        self._waiting.clear()
        self._last_id, self._restart = 0, False

    def _fail(self, event: StoredEvent, max_attempts: int = _MAX_ATTEMPTS) -> bool:
        """Schedule the next attempt at an event, or drop it after the last; return whether it was dropped."""
        if event.id != self._refused_id:
            self._refused_id, self._attempts = event.id, 0
        self._attempts += 1
        min_delay, max_delay = self._backoff
        self._delay = min(max_delay, 4 * self._delay or min_delay)
        if self._attempts >= max_attempts and self._outbox.drop(event.id):
            self._attempts, self._retry_time = 0, clock.monotonic() + self._rate_limit.interval
            return True
        self._retry_time = clock.monotonic() + self._delay
        return False

    def _delete_delivered(self) -> None:
        """Delete delivered events from the outbox."""
        self._outbox.delete(self._delivered)
        self._delivered.clear()

    def _log_once(self, problem: str) -> None:
        """Log a problem, and do not repeat it until it was solved."""
        if problem not in self._logged:
            logger.warning("%s: %s", self._broker.address, problem)
            self._logged.add(problem)
