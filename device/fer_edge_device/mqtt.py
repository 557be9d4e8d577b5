"""Messages to an MQTT broker: now if it is there, and as soon as it is there again."""

from __future__ import annotations

import logging
import os
import random
import threading
import time as clock
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fer_edge.errors import BrokerError, FerEdgeError, first_line
from fer_edge_device.broker import Broker, connect
from fer_edge_device.discovery import removal_message
from fer_edge_device.outbox import Outbox, outbox_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.broker import Answer, Connection, Received
    from fer_edge_device.config import MqttSettings, OutboxSettings
    from fer_edge_device.messages import Message, Topics
    from fer_edge_device.outbox import Row

logger = logging.getLogger(__name__)

_SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_STEADY: Final = 30.0  # seconds after which a connection counts as one that holds
_PAUSE: Final = 60.0  # seconds until events that a broker refused are offered again
_BATCH: Final = 20  # events that are taken from the outbox at a time
_LOOK: Final = 1.0  # seconds between two looks at a connection on which nothing happens
_KEPT: Final = 0.5  # seconds for which a delivered event stays on disk: fewer writes, for a rare repeat


class MqttSink:
    """Publishes messages from a thread of its own; whoever gives them never waits for the network.

    Events go through the outbox and leave it when the broker has acknowledged them: none is lost, and one may come
    twice. Of a retained topic the latest message is sent, and sent again after every connect. Anything else is
    dropped while there is no connection.
    """

    def __init__(
        self,
        topics: Topics,
        settings: MqttSettings,
        outbox: OutboxSettings,
        *,
        on_enabled: Callable[[bool], None] | None = None,
        backoff: tuple[float, float] = (1.0, 60.0),
    ) -> None:
        """Open the outbox and begin to connect.

        Args:
            topics: of the node.
            settings: which broker, and how to log in.
            outbox: where events wait, how many, and how fast they leave.
            on_enabled: told what ``enabled/set`` asks for, on the sink's thread, as often as it is asked for.
            backoff: least and most seconds between two attempts to connect.

        Raises:
            InputError: a setting cannot be used, or the outbox is in use.
        """
        self._topics, self._on_enabled, self._backoff = topics, on_enabled, backoff
        self._broker = Broker(settings)
        self._birth = f"{settings.ha_prefix}/status" if settings.ha_discovery else None
        self._interval = 1 / outbox.rate
        self._outbox = Outbox(outbox_path(outbox, topics.node), outbox)
        self._lock = threading.Lock()
        self._connected = False
        self._retained: dict[str, Message] = {}
        self._latest: dict[str, Message] = {}  # what this connection has yet to send, one message a topic
        self._closing = threading.Event()
        self._deadline = 0.0
        self._told = ""
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # A daemon, because a name server that does not answer must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="mqtt", daemon=True)
        self._thread.start()

    @property
    def queued(self) -> int:
        """How many events wait."""
        return len(self._outbox)

    @property
    def dropped(self) -> int:
        """How many events were never sent, since the outbox was begun."""
        return self._outbox.dropped

    def publish(self, message: Message) -> None:
        """Take a message; an event is on disk when this returns, unless the sink was closed."""
        if self._closing.is_set():
            return
        if message.topic == self._topics["event"]:
            self._outbox.put(message.topic, message.body())
        elif message == self._topics.availability("offline"):
            return  # the last word, which `close` has after all events
        else:
            with self._lock:
                if message.retain:
                    self._retained[message.topic] = message
                if self._connected:
                    self._latest[message.topic] = message
        os.eventfd_write(self._wake, 1)

    def close(self, timeout: float = 10.0) -> None:
        """Send what waits and then ``offline``, if there is a connection, and end the thread.

        Args:
            timeout: seconds that may take; events that are not sent by then are for the next run.
        """
        if self._closing.is_set():
            return
        self._deadline = clock.monotonic() + timeout
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout + _LOOK)
        self._outbox.close()
        if not self._thread.is_alive():
            os.close(self._wake)

    def _work(self) -> None:
        """Connect and serve, and wait longer each time that fails.

        The wait is drawn between the shortest and three times the one before ("decorrelated jitter": M. Brooker,
        Exponential Backoff And Jitter, AWS Architecture Blog, 2015): devices that lost a broker together do not
        all come back to it together.
        """
        shortest, longest = self._backoff
        wait = shortest
        while not self._closing.is_set():
            began = clock.monotonic()
            try:
                self._connect_and_serve()
            except FerEdgeError as error:
                self._tell(str(error))
            except Exception as error:  # noqa: BLE001 - this thread has to go on for months
                self._tell(f"{self._broker.address}: {type(error).__name__}: {first_line(error)}")
            if clock.monotonic() - began > _STEADY:
                wait = shortest
            wait = min(longest, random.uniform(shortest, 3 * wait))  # noqa: S311 - no secret
            logger.debug("%s: next attempt in %.2f s", self._broker.address, wait)
            self._closing.wait(wait)

    def _tell(self, trouble: str) -> None:
        """Log what is wrong, once until something else is."""
        if trouble != self._told:
            logger.warning("%s", trouble)
            self._told = trouble

    def _connect_and_serve(self) -> None:
        will = self._topics.availability("offline")
        connection = connect(self._broker, f"fer-edge-{self._topics.node}", will=will)
        events = _Events(self._outbox, connection, self._interval)
        try:
            self._told = ""
            logger.info("connected to %s; %d events wait", connection, self.queued)
            self._send_all_retained()
            self._subscribe(connection)
            self._serve(connection, events)
            with suppress(BrokerError):
                left = max(self._deadline - clock.monotonic(), _LOOK)
                connection.deliver([will], left)
                connection.disconnect(left)
        finally:
            with self._lock:
                self._connected = False
                self._latest.clear()
            connection.drop()
            self._take_answers(connection, events)  # those that came with the end
            events.forget_delivered()

    def _serve(self, connection: Connection, events: _Events) -> None:
        """Send and listen until the sink is closed and all is sent, or its time is over."""
        while not (self._closing.is_set() and clock.monotonic() >= self._deadline):
            self._send_latest(connection)
            pause = events.send()
            if self._closing.is_set() and connection.idle and not self._latest and not events.due:
                return
            connection.step(pause, self._wake)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._take_answers(connection, events)
            for received in connection.take_received():
                self._hear(received)

    def _take_answers(self, connection: Connection, events: _Events) -> None:
        for answer in connection.take_answers():
            events.take(answer)
            if answer.refused:
                self._tell(f"{self._broker.address}: refuses messages ({answer.refused}); events wait")

    def _send_latest(self, connection: Connection) -> None:
        while connection.room > 0:
            with self._lock:
                if not self._latest:
                    return
                message = self._latest.pop(next(iter(self._latest)))
            connection.send(message.topic, message.body(), message.qos, retain=message.retain)

    def _send_all_retained(self) -> None:
        with self._lock:
            self._connected = True
            first = self._topics["availability"]
            self._latest |= dict(sorted(self._retained.items(), key=lambda item: item[0] != first))

    def _subscribe(self, connection: Connection) -> None:
        topics = [self._topics["enabled/set"]] if self._on_enabled else []
        if self._birth:
            topics.append(self._birth)
        if topics:
            connection.subscribe(topics)

    def _hear(self, received: Received) -> None:
        if received.topic == self._birth:
            # Home Assistant has started; what it had already, the broker gives it again by itself.
            if received.payload == b"online" and not received.retained:
                self._send_all_retained()
            return
        word = received.payload.decode(errors="replace").strip().lower()
        if word in _SWITCH and self._on_enabled:
            self._on_enabled(_SWITCH[word])
        elif word:  # without a word it is a retained message that was taken away
            logger.warning("%s: %.40r is neither ON nor OFF", received.topic, word)


class _Events:
    """The events of an outbox on their way through one connection: in order, and no faster than agreed."""

    def __init__(self, outbox: Outbox, connection: Connection, interval: float) -> None:
        self._outbox, self._connection, self._interval = outbox, connection, interval
        self._rows: deque[Row] = deque()
        self._last = 0
        self._in_flight: dict[int, int] = {}
        self._delivered: list[int] = []
        self._refused = False
        self._forgot_at = self._next = clock.monotonic()

    @property
    def due(self) -> bool:
        """Whether some have yet to be sent."""
        return bool(self._rows)

    def send(self) -> float:
        """Send what is due.

        Returns:
            Seconds until the next may be due.
        """
        now = clock.monotonic()
        if now - self._forgot_at >= _KEPT:
            self.forget_delivered()
            self._forgot_at = now
        if self._refused and not self._in_flight:
            self.forget_delivered()
            self._rows.clear()
            self._refused, self._last, self._next = False, 0, now + _PAUSE
        if not self._rows and not self._refused:
            self._rows.extend(self._outbox.after(self._last, _BATCH))
        if self._rows and now >= self._next and self._connection.room > 0 and not self._refused:
            row = self._rows.popleft()
            self._in_flight[self._connection.send(row.topic, row.payload, 1, retain=False)] = row.id
            self._last, self._next = row.id, now + self._interval
        pause = _KEPT if self._delivered else _LOOK
        if self._rows and self._connection.room > 0:
            pause = min(pause, max(self._next - now, 0.0))
        return pause

    def take(self, answer: Answer) -> None:
        """Take in the broker's answer to a message, which may be no event."""
        row = self._in_flight.pop(answer.number, None)
        if row is not None and answer.refused:
            self._refused = True
        elif row is not None:
            self._delivered.append(row)

    def forget_delivered(self) -> None:
        """Take from the outbox what has arrived."""
        self._outbox.done(self._delivered)
        self._delivered.clear()


def check_broker(settings: MqttSettings, node: str, timeout: float = 10.0) -> str:
    """Log in once.

    Args:
        settings: which broker, and how.
        node: whose name is used; a runner of this name is not disturbed.
        timeout: seconds for each step of the way.

    Returns:
        What was reached, in one line.

    Raises:
        InputError: a setting cannot be used.
        BrokerError: there is no connection; says why.
    """
    broker = Broker(settings)
    connection = connect(broker, f"fer-edge-{node}-check", timeout=timeout)
    user = f"as {broker.address.user}" if broker.address.user else "without a user"
    reached = f"{connection}, logged in {user}"
    connection.disconnect(timeout)
    return reached


def forget_node(settings: MqttSettings, topics: Topics, timeout: float = 10.0) -> str:
    """Take every retained message of a node from the broker, and its device from Home Assistant.

    Args:
        settings: which broker, and how to log in.
        topics: of the node.
        timeout: seconds for each step of the way.

    Returns:
        From which broker.

    Raises:
        InputError: a setting cannot be used.
        BrokerError: the broker cannot be reached, or does not let us; says why.
    """
    connection = connect(Broker(settings), f"fer-edge-{topics.node}-forget", timeout=timeout)
    reached = str(connection)
    try:
        connection.deliver([removal_message(topics, settings.ha_prefix), *topics.removals()], timeout)
    finally:
        connection.disconnect(timeout)
    return reached
