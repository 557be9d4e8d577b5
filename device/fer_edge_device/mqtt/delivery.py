"""Deliver events to two topics: fresh ones, which may start something, and the backlog of an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge_device.mqtt.event_sender import EventSender, RateLimit

if TYPE_CHECKING:
    from fer_edge_device.config.settings import OutboxSettings
    from fer_edge_device.mqtt.broker import Broker
    from fer_edge_device.mqtt.connection import Connection, PublishAck
    from fer_edge_device.mqtt.outbox import Outbox

BACKLOG: Final = "/backlog"  # what follows the topic of an event that is no longer fresh
_BACKLOG_ROOM: Final = (
    2  # the backlog takes half of the messages that may be in flight, and leaves half to fresh events
)


class Delivery:
    """Sends fresh events first, and the backlog in its order while there is no fresh one to send."""

    def __init__(
        self, outbox: Outbox, topic: str, settings: OutboxSettings, broker: Broker, backoff: tuple[float, float]
    ) -> None:
        """Send nothing yet.

        Args:
            outbox: the stored events.
            topic: the node's event topic.
            settings: the maximum rate.
            broker: the broker, for the log.
            backoff: minimum and maximum seconds before a refused event is sent again.
        """
        rate_limit = RateLimit(1 / settings.max_rate)
        self._fresh = EventSender(outbox, topic, broker, suffix="", rate_limit=rate_limit, backoff=backoff)
        self._backlog = EventSender(outbox, topic, broker, suffix=BACKLOG, rate_limit=rate_limit, backoff=backoff)

    @property
    def pending(self) -> bool:
        """Whether events are still to be sent and none of them was refused."""
        return self._fresh.pending or self._backlog.pending

    def send(self, connection: Connection) -> float:
        """Send the event that is due.

        Returns:
            Seconds until the next event may be due.
        """
        wait = self._fresh.send(connection, connection.room)
        if self._fresh.pending or self._fresh.in_doubt:
            return wait
        room = connection.room - connection.max_in_flight // _BACKLOG_ROOM
        # An event that has grown old in flight comes first if it has to be sent again.
        return min(wait, self._backlog.send(connection, room, self._fresh.oldest_in_flight))

    def handle_ack(self, ack: PublishAck) -> bool:
        """Handle an acknowledgement and return whether it was for an event."""
        return self._fresh.handle_ack(ack) or self._backlog.handle_ack(ack)

    def connection_ended(self, close_reason: str) -> None:
        """Start over with the oldest undelivered events.

        Args:
            close_reason: how the broker closed the connection, if a message may have caused that; otherwise empty.
        """
        self._fresh.connection_ended(close_reason)
        self._backlog.connection_ended(close_reason)
