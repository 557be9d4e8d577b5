"""Publish messages to an MQTT broker, which may come and go."""

from __future__ import annotations

import logging
import math
import os
import threading
import time as clock
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import BrokerError, FerEdgeError, first_line
from fer_edge.utils.words import counted
from fer_edge_device.messages import Message
from fer_edge_device.mqtt.backoff import Backoff
from fer_edge_device.mqtt.broker import Broker
from fer_edge_device.mqtt.commands import NO_COMMANDS, Commands
from fer_edge_device.mqtt.connection import PacketTooLargeError
from fer_edge_device.mqtt.delivery import Delivery
from fer_edge_device.mqtt.event_writer import EventWriter
from fer_edge_device.mqtt.login import connect
from fer_edge_device.mqtt.outbox import Outbox, outbox_path
from fer_edge_device.mqtt.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from paho.mqtt.enums import MQTTProtocolVersion

    from fer_edge_device.config.settings import MqttSettings, OutboxSettings
    from fer_edge_device.messages import MessageFactory
    from fer_edge_device.mqtt.commands import SwitchCommand
    from fer_edge_device.mqtt.connection import Connection

logger = logging.getLogger(__name__)

_STABLE_AFTER: Final = 30.0  # seconds after which a connection counts as stable
_FAREWELL_TIME: Final = 2.0  # seconds of closing that are left to a running login, and to the last message
_JOIN_GRACE: Final = 1.0  # seconds beyond the timeout of `close` for the thread to end
_RETAINED_TIMEOUT: Final = 2.0  # seconds of the first connection in which a retained command should arrive


class _Deadlines(NamedTuple):
    """When each step of closing must be over, on the monotonic clock.

    Attributes:
        login: a login that has not succeeded is abandoned.
        sending: waiting messages stay for the next run.
        disconnect: the connection is dropped.
    """

    login: float = math.inf
    sending: float = math.inf
    disconnect: float = math.inf


class MqttSink:
    """Publishes messages from its own threads, so that `publish` waits neither for the network nor for the disk.

    Events pass through the outbox and leave it when the broker has acknowledged them: none is lost, and one may be
    delivered twice. Those that have waited too long go to a topic of their own, behind the fresh ones. An event that
    the broker refuses again and again is dropped and counted. Of each retained topic, the latest message is sent, and
    sent again after every connect. Other messages are dropped while there is no connection.
    """

    def __init__(
        self,
        messages: MessageFactory,
        settings: MqttSettings,
        outbox: OutboxSettings,
        *,
        outbox_file: Path | None = None,
        goes_on: bool = False,
        on_command: Callable[[SwitchCommand], bool] | None = None,
        commands: Mapping[str, Callable[[bytes], None]] = NO_COMMANDS,
        backoff: tuple[float, float] = (1.0, 12.0),
        retry: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        """Open the outbox and start to connect.

        Args:
            messages: makes the node's messages.
            settings: the broker and the login.
            outbox: file and limits of the outbox.
            outbox_file: another file; None: the one of the settings.
            goes_on: whether another sink of this run used the outbox before, and its faces are still in view.
            on_command: called on the sink's thread with each command that arrives at ``enabled/set``; returns whether
                it is done with, also after a power cut, so that it need not be retained any longer.
            commands: what to do with the payload of other commands, by their topics; called on the sink's thread, and
                not with what the broker had retained. May raise `InputError`, which is logged.
            backoff: minimum and maximum seconds between two attempts to connect.
            retry: minimum and maximum seconds between two attempts to send a refused event.

        Raises:
            InputError: a setting cannot be used, or the outbox is in use.
        """
        self._messages, self._backoff = messages, Backoff(*backoff)
        self._broker = Broker(settings)
        self._commands = Commands(
            messages,
            on_switch=on_command,
            others=commands,
            ha_status_topic=f"{settings.ha_discovery_prefix}/status" if settings.ha_discovery else None,
            on_ha_start=self._send_all_retained,
            remove=self._remove_retained,
        )
        self._refusals = Refusals(self._broker)
        self._outbox = Outbox(outbox_file or outbox_path(outbox, messages.node), outbox, settings.event_max_age_s)
        self._outbox.begin_run(goes_on=goes_on)
        self._events = Delivery(self._outbox, messages.topic("event"), outbox, self._broker, retry)
        self._lock = threading.Lock()
        self._connected = False
        self._retained: dict[str, Message] = {}
        self._unsent: dict[str, Message] = {}  # the latest message of each topic that this connection has not sent yet
        self._closed, self._closing = False, threading.Event()
        self._deadlines = _Deadlines()
        self._version: MQTTProtocolVersion | None = None
        self._logged: set[str] = set()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._writer = EventWriter(self._outbox, self._wake_up)
        # A daemon, because a name server that does not answer must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._started_at = clock.monotonic()
        self._thread.start()

    @property
    def connected(self) -> bool:
        """Whether the broker takes messages now."""
        return self._connected

    @property
    def queued(self) -> int:
        """Number of events that wait."""
        return len(self._outbox) + len(self._writer)

    @property
    def dropped(self) -> int:
        """Number of events that were dropped since the outbox was created."""
        return self._outbox.dropped

    def publish(self, *messages: Message) -> None:
        """Publish the messages of a frame, unless the sink is closed. Events are written to the disk together."""
        if self._closed:
            return
        event_topic, offline = self._messages.topic("event"), self._messages.availability("offline")
        with self._lock:
            for message in messages:
                if message.topic == event_topic or message == offline:  # `close` sends the latter after all events
                    continue
                if message.retain:
                    self._retained[message.topic] = message
                if self._connected:
                    self._unsent[message.topic] = message
        self._writer.put(messages)
        self._wake_up()

    def wait_until_stored(self) -> None:
        """Wait until the events that were published so far are on the disk, so that a power cut cannot lose them."""
        self._writer.wait_until_stored()

    def wait_for_retained_command(self) -> None:
        """Wait for a command to the switch that the broker may have retained.

        This takes a moment if the broker answers, none if it cannot be reached, and two seconds otherwise.
        """
        self._commands.wait_for_retained(self._started_at + _RETAINED_TIMEOUT - clock.monotonic())

    def close(self, timeout: float = 10.0) -> None:
        """Send what is waiting and then ``offline`` if there is a connection, and end the thread.

        Args:
            timeout: maximum seconds to wait. A thread that hangs in the system gets one second more, for example when
                a name server does not answer. It is then left behind with a warning, and does nothing but end. Events
                that are not sent by then stay for the next run.
        """
        if self._closed:
            return
        self._closed = True
        now, farewell = clock.monotonic(), min(_FAREWELL_TIME, timeout / 2)
        stored = self._writer.close(farewell)
        self._deadlines = _Deadlines(now + farewell, now + timeout - farewell, now + timeout)
        self._closing.set()
        self._wake_up()
        self._thread.join(timeout + _JOIN_GRACE)
        self._outbox.close()
        if not stored:
            logger.warning("the disk does not answer; %s may be lost", counted(len(self._writer), "event"))
        if self._thread.is_alive():
            logger.warning("%s: the system is still trying to connect; not waiting for it", self._broker.address)
        elif stored:
            os.close(self._wake)

    def _wake_up(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        """Connect and send; after each failure, wait longer."""
        while not self._closing.is_set():
            try:
                self._connect_and_send()
            except FerEdgeError as error:
                self._log_once(str(error))
            except Exception as error:  # noqa: BLE001 - this thread has to run for months
                self._log_once(f"{self._broker.address}: {type(error).__name__}: {first_line(error)}")
            self._commands.give_up_retained()
            self._commands.flush_log(at_end=self._closing.is_set())
            delay = self._backoff.next_delay()
            logger.debug("%s: next attempt in %.2f s", self._broker.address, delay)
            self._closing.wait(delay)

    def _log_once(self, problem: str) -> None:
        """Log a problem, and do not repeat it until a connection was stable."""
        if problem not in self._logged:
            logger.warning("%s", problem)
            self._logged.add(problem)

    def _connect_and_send(self) -> None:
        will = self._messages.availability("offline")
        first, self._version = self._version, None
        connection = connect(
            self._broker, self._messages.identity, will=will, deadline=lambda: self._deadlines.login, first=first
        )
        self._version = connection.version
        try:
            logger.info("connected to %s; %s waiting", connection, counted(self.queued, "event"))
            self._send_all_retained()
            self._commands.subscribe(connection)
            self._send_and_receive(connection)
            with suppress(BrokerError):
                connection.deliver([will], self._deadlines.disconnect - clock.monotonic())
                connection.disconnect(self._deadlines.disconnect - clock.monotonic())
        except PacketTooLargeError as error:
            raise BrokerError(f"{error}{self._commands.handle_large_message(error.large_message)}") from error
        finally:
            with self._lock:
                self._connected = False
                self._unsent.clear()
            connection.drop()
            if connection.age > _STABLE_AFTER:
                self._backoff.reset()
                self._logged.clear()
                self._refusals.forget()
                self._commands.connection_was_stable()
            self._handle_acks(connection)  # those that arrived just before the end
            self._refusals.log(at_end=True)
            self._events.connection_ended(connection.close_reason)

    def _send_and_receive(self, connection: Connection) -> None:
        """Send and receive until the sink is closed and everything is sent, or the deadline has passed."""
        while clock.monotonic() < self._deadlines.sending:
            self._send_unsent(connection)
            wait = min(self._events.send(connection), self._commands.check(connection))
            if self._closing.is_set() and connection.idle and not self._unsent and not self._events.pending:
                return
            connection.step(max(min(wait, self._deadlines.sending - clock.monotonic()), 0.0), self._wake)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._handle_acks(connection)
            self._refusals.log()
            for received in connection.take_received():
                self._commands.handle(received)

    def _handle_acks(self, connection: Connection) -> None:
        for ack in connection.take_acks():
            if not self._events.handle_ack(ack) and ack.refusal:
                self._refusals.add(ack)

    def _send_unsent(self, connection: Connection) -> None:
        while connection.room > 0:
            with self._lock:
                if not self._unsent:
                    return
                message = self._unsent.pop(next(iter(self._unsent)))
            connection.send(message.topic, message.body(), message.qos, retain=message.retain)

    def _send_all_retained(self) -> None:
        with self._lock:
            self._connected = True
            # Last, because what the broker still holds of an earlier run must not be taken for the present.
            last = self._messages.topic("availability")
            self._unsent |= dict(sorted(self._retained.items(), key=lambda item: item[0] == last))

    def _remove_retained(self, topic: str) -> None:
        """Remove what the broker has retained of a topic."""
        with self._lock:
            self._unsent[topic] = Message(topic, "", 1, retain=True)
