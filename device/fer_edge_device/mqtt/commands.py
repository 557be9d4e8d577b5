"""Commands that arrive over MQTT: the privacy switch, the settings, a restart, and the start of Home Assistant."""

from __future__ import annotations

import logging
import math
import threading
import time as clock
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import InputError
from fer_edge_device.logging import RateLimitedLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fer_edge_device.messages import MessageFactory
    from fer_edge_device.mqtt.bounded_client import LargeMessage
    from fer_edge_device.mqtt.connection import Connection, Received

logger = logging.getLogger(__name__)

_SWITCH_VALUES: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
# Seconds after the broker has confirmed the subscriptions. It sends what it has retained together with that.
_RETAINED_TIME: Final = 0.1

NO_COMMANDS: Final[Mapping[str, Callable[[bytes], None]]] = MappingProxyType({})


class SwitchCommand(NamedTuple):
    """A command to the privacy switch.

    Attributes:
        on: whether to process frames.
        retained: whether the broker had kept it for this connection: it may be old.
    """

    on: bool
    retained: bool


class Commands:
    """Subscribes to the topics of commands, and carries out what arrives there.

    All methods except `wait_for_retained` are called from the thread of the connection.
    """

    def __init__(
        self,
        messages: MessageFactory,
        *,
        on_switch: Callable[[SwitchCommand], bool] | None,
        others: Mapping[str, Callable[[bytes], None]],
        ha_status_topic: str | None,
        on_ha_start: Callable[[], None],
        remove: Callable[[str], None],
    ) -> None:
        """Subscribe to nothing yet.

        Args:
            messages: makes the node's messages.
            on_switch: called with each command to the privacy switch; returns whether it is done with.
            others: what to do with the payload of other commands, by their topics. May raise `InputError`.
            ha_status_topic: where Home Assistant says that it has started; None: nobody listens.
            on_ha_start: called when it has.
            remove: removes what the broker has retained of a topic. This is called for each command that is done with,
                because a broker does not say of a new message whether it is retained.
        """
        self._switch_topic, self._on_switch, self._others = messages.topic("enabled/set"), on_switch, others
        self._ha_status_topic, self._on_ha_start, self._remove = ha_status_topic, on_ha_start, remove
        # Topics of which the broker retains a message that is too large to be received: it is to be removed, it should
        # have been removed, or it is still there and the topic is left out.
        self._to_remove: set[str] = set()
        self._removed: set[str] = set()
        self._left_out: set[str] = set()
        self._wrong_messages = RateLimitedLog(logger, logging.WARNING, "wrong message")
        self._subscribed_at: float | None = None
        self._all_received = False  # of what is retained, at this connection
        self._retained_known = threading.Event()

    def subscribe(self, connection: Connection) -> None:
        """Subscribe at a new connection."""
        for topic in self._to_remove:
            connection.send(topic, b"", 1, retain=True)
        self._removed |= self._to_remove
        self._to_remove.clear()
        self._subscribed_at, self._all_received = None, False
        if topics := [topic for topic in self._topics if topic not in self._left_out]:
            connection.subscribe(topics)

    def wait_for_retained(self, timeout: float) -> None:
        """Wait until the broker has sent the command to the switch that it may have retained, or cannot be reached.

        Args:
            timeout: maximum seconds to wait.
        """
        self._retained_known.wait(timeout)

    def give_up_retained(self) -> None:
        """Let `wait_for_retained` return."""
        self._retained_known.set()

    def check(self, connection: Connection) -> float:
        """Do what is due: log what was only counted, and find out whether all retained messages have arrived.

        Returns:
            Seconds until this should be called again.
        """
        self.flush_log()
        if self._all_received:
            return math.inf
        now = clock.monotonic()
        if self._subscribed_at is None and connection.subscribed:
            self._subscribed_at = now
        left = _RETAINED_TIME if self._subscribed_at is None else self._subscribed_at + _RETAINED_TIME - now
        if left <= 0:
            self._all_received = True
            self.give_up_retained()
        return max(left, 0.0)

    def flush_log(self, *, at_end: bool = False) -> None:
        """Log how many wrong messages were only counted; see `RateLimitedLog.flush`."""
        self._wrong_messages.flush(at_end=at_end)

    def handle(self, received: Received) -> None:
        """Carry out what arrived."""
        if received.topic == self._ha_status_topic:
            # A retained message is older than this connection, which has sent everything.
            if received.payload == b"online" and not received.retained:
                self._on_ha_start()
        elif not received.payload:  # a retained command was removed
            return
        elif command := self._others.get(received.topic):
            self._carry_out(command, received)
        else:
            self._switch(received)

    def handle_large_message(self, message: LargeMessage) -> str:
        """Keep a message that ended the connection from ending the next one.

        Returns:
            What the message was and what is done about it, as the end of a line.
        """
        topic = message.topic
        if topic not in self._topics:
            return ", of a topic that nobody subscribed to; is it a broker?"
        if not message.retained:
            return f", a message to {topic}; find out who publishes such messages"
        if topic in self._removed or topic == self._ha_status_topic:
            self._left_out.add(topic)
            return (
                f", a retained message to {topic}, which is ignored from now on; remove the message"
                f" (mosquitto_pub --retain --null-message --topic {topic}) and restart"
            )
        self._to_remove.add(topic)
        return f", a retained message to {topic}, which is removed; find out who publishes such messages"

    def connection_was_stable(self) -> None:
        """Treat a large message that arrives from now on as a new one."""
        self._removed.clear()

    @property
    def _topics(self) -> list[str]:
        topics = [self._switch_topic] if self._on_switch else []
        topics += self._others
        return [*topics, self._ha_status_topic] if self._ha_status_topic else topics

    def _switch(self, received: Received) -> None:
        text = received.payload.decode(errors="replace")
        value = text.strip().lower()
        if value not in _SWITCH_VALUES or not self._on_switch:
            self._wrong_messages.log(f"{received.topic}: {text[:40]!r} is neither ON nor OFF")
            self._remove(received.topic)
        elif self._on_switch(SwitchCommand(_SWITCH_VALUES[value], retained=received.retained)):
            self._remove(received.topic)
        self.give_up_retained()

    def _carry_out(self, command: Callable[[bytes], None], received: Received) -> None:
        if received.retained:
            # It may be old, and would be repeated at each connection.
            self._wrong_messages.log(
                f"{received.topic}: a retained message was not obeyed and is removed; publish it without retain"
            )
        else:
            try:
                command(received.payload)
            except InputError as error:
                self._wrong_messages.log(f"{received.topic}: {error}")
        self._remove(received.topic)
