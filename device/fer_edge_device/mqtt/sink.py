"""Messages to an MQTT broker: now if it is there, and as soon as it is there again."""

from __future__ import annotations

import logging
import math
import os
import random
import threading
import time as clock
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import BrokerError, FerEdgeError, first_line
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.connection import Broker, connect
from fer_edge_device.mqtt.home_assistant import removal_message
from fer_edge_device.mqtt.outbox import Outbox, outbox_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.config.settings import MqttSettings, OutboxSettings
    from fer_edge_device.messages import Message
    from fer_edge_device.mqtt.connection import Answer, Connection, Received
    from fer_edge_device.mqtt.outbox import Row

logger = logging.getLogger(__name__)

_SWITCH: Final = {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}
_STEADY: Final = 30.0  # seconds after which a connection counts as one that holds
_TRIES: Final = 5  # how often an event is offered to a broker that refuses it
_PARTING: Final = 2.0  # seconds of closing that a login under way gets, and the last word
_BATCH: Final = 20  # events that are taken from the outbox at a time
_LOOK: Final = 1.0  # seconds between two looks at a connection on which nothing happens
_KEPT: Final = 0.5  # seconds for which a delivered event stays on disk: fewer writes, for a rare repeat


class _End(NamedTuple):
    """When it is over with what, on the monotonic clock."""

    login: float = math.inf
    serving: float = math.inf
    leaving: float = math.inf


class MqttSink:
    """Publishes messages from a thread of its own; whoever gives them never waits for the network.

    Events go through the outbox and leave it when the broker has acknowledged them: none is lost, and one may come
    twice. One that the broker refuses time and again is dropped and counted. Of a retained topic the latest message is
    sent, and sent again after every connect. Anything else is dropped while there is no connection.
    """

    def __init__(
        self,
        topics: MessageFactory,
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
            backoff: least and most seconds between two attempts to connect, or to send what was refused.

        Raises:
            InputError: a setting cannot be used, or the outbox is in use.
        """
        self._topics, self._on_enabled, self._backoff = topics, on_enabled, backoff
        self._broker = Broker(settings)
        self._birth = f"{settings.ha_discovery_prefix}/status" if settings.ha_discovery else None
        self._outbox = Outbox(outbox_path(outbox, topics.node), outbox)
        self._events = _Events(self._outbox, topics.topic("event"), 1 / outbox.max_rate, self._broker, backoff)
        self._lock = threading.Lock()
        self._connected = False
        self._retained: dict[str, Message] = {}
        self._latest: dict[str, Message] = {}  # what this connection has yet to send, one message a topic
        self._closing = threading.Event()
        self._end = _End()
        self._wait = backoff[0]
        self._told: set[str] = set()
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
        if message.topic == self._topics.topic("event"):
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
            timeout: seconds that may take, and one more for a thread that hangs in the system, as where a name server
                does not answer: that is said, and the thread does nothing any more but end. Events that are not sent
                by then are for the next run.
        """
        if self._closing.is_set():
            return
        now, parting = clock.monotonic(), min(_PARTING, timeout / 2)
        self._end = _End(now + parting, now + timeout - parting, now + timeout)
        self._closing.set()
        os.eventfd_write(self._wake, 1)
        self._thread.join(timeout + _LOOK)
        self._outbox.close()
        if self._thread.is_alive():
            logger.warning("%s: the system does not give up connecting; that is left behind", self._broker.address)
        else:
            os.close(self._wake)

    def _work(self) -> None:
        """Connect and serve, and wait longer each time that fails.

        The wait is drawn between the shortest and three times the one before ("decorrelated jitter": M. Brooker,
        Exponential Backoff And Jitter, AWS Architecture Blog, 2015): devices that lost a broker together do not
        all come back to it together.
        """
        shortest, longest = self._backoff
        while not self._closing.is_set():
            try:
                self._connect_and_serve()
            except FerEdgeError as error:
                self._tell(str(error))
            except Exception as error:  # noqa: BLE001 - this thread has to go on for months
                self._tell(f"{self._broker.address}: {type(error).__name__}: {first_line(error)}")
            self._wait = min(longest, random.uniform(shortest, 3 * self._wait))  # noqa: S311 - no secret
            logger.debug("%s: next attempt in %.2f s", self._broker.address, self._wait)
            self._closing.wait(self._wait)

    def _tell(self, trouble: str) -> None:
        """Log what is wrong, once until a connection has held."""
        if trouble not in self._told:
            logger.warning("%s", trouble)
            self._told.add(trouble)

    def _connect_and_serve(self) -> None:
        will = self._topics.availability("offline")
        connection = connect(self._broker, self._topics.identity, will=will, until=lambda: self._end.login)
        try:
            logger.info("connected to %s; %d events wait", connection, self.queued)
            self._send_all_retained()
            self._subscribe(connection)
            self._serve(connection)
            with suppress(BrokerError):
                connection.deliver([will], self._end.leaving - clock.monotonic())
                connection.disconnect(self._end.leaving - clock.monotonic())
        finally:
            with self._lock:
                self._connected = False
                self._latest.clear()
            connection.drop()
            if connection.age > _STEADY:
                self._wait = self._backoff[0]
                self._told.clear()
            self._take_answers(connection)  # those that came with the end
            self._events.end(connection.blame)

    def _serve(self, connection: Connection) -> None:
        """Send and listen until the sink is closed and all is sent, or its time is over."""
        while clock.monotonic() < self._end.serving:
            self._send_latest(connection)
            pause = self._events.send(connection)
            if self._closing.is_set() and connection.idle and not self._latest and not self._events.due:
                return
            connection.step(max(min(pause, self._end.serving - clock.monotonic()), 0.0), self._wake)
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._take_answers(connection)
            for received in connection.take_received():
                self._hear(received)

    def _take_answers(self, connection: Connection) -> None:
        for answer in connection.take_answers():
            if not self._events.take(answer) and answer.refused:
                everything = f"{self._topics.topic('info').removesuffix('info')}#"
                advice = _advice(self._broker, everything, answer.refused)
                self._tell(f"{self._broker.address}: refuses messages ({answer.refused}); {advice}")

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
            first = self._topics.topic("availability")
            self._latest |= dict(sorted(self._retained.items(), key=lambda item: item[0] != first))

    def _subscribe(self, connection: Connection) -> None:
        topics = [self._topics.topic("enabled/set")] if self._on_enabled else []
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
    """The events of an outbox on their way to a broker: in order, no faster than agreed, each a few times at most.

    After a refusal, or a connection that ended with events under way, they are sent one at a time until one arrives:
    so the events after a refused one wait with it, and it is known at which one a broker closes the connection.
    """

    def __init__(
        self, outbox: Outbox, topic: str, interval: float, broker: Broker, backoff: tuple[float, float]
    ) -> None:
        self._outbox, self._topic, self._interval = outbox, topic, interval
        self._broker, self._backoff = broker, backoff
        self._rows: deque[Row] = deque()
        self._last = 0
        self._in_flight: dict[int, Row] = {}
        self._delivered: list[int] = []
        self._single = self._again = False
        self._suspect = self._tries = 0
        self._wait = 0.0
        self._told: set[str] = set()
        self._forgot_at = self._next = clock.monotonic()

    @property
    def due(self) -> bool:
        """Whether some have yet to be sent, and none is refused."""
        return bool(self._rows) and not self._tries

    def send(self, connection: Connection) -> float:
        """Send what is due.

        Returns:
            Seconds until the next may be due.
        """
        now = clock.monotonic()
        if now - self._forgot_at >= _KEPT:
            self._forget_delivered()
            self._forgot_at = now
        if self._again and not self._in_flight:
            self._begin_again()
        if not self._rows and not self._again:
            self._rows.extend(self._outbox.after(self._last, 1 if self._single else _BATCH))
        if self._may_send(connection) and now >= self._next:
            row = self._rows.popleft()
            self._in_flight[connection.send(row.topic, row.payload, 1, retain=False)] = row
            self._last, self._next = row.id, now + self._interval
        pause = _KEPT if self._delivered else _LOOK
        if self._may_send(connection):
            pause = min(pause, max(self._next - now, 0.0))
        return pause

    def take(self, answer: Answer) -> bool:
        """Take in the broker's answer to a message; whether that was an event."""
        row = self._in_flight.pop(answer.number, None)
        if row is None:
            return False
        if not answer.refused:
            self._delivered.append(row.id)
        if self._again:  # of those that were under way together, the first that is refused counts
            return True
        if answer.refused:
            self._single = self._again = True
            advice = _advice(self._broker, row.topic, answer.refused)
            self._tell(f"refuses events ({answer.refused}); {advice}. Each is offered {_TRIES} times, then dropped")
            # What is of another name that the node had before does not keep its own events waiting.
            self._fail(row, _TRIES if row.topic == self._topic else 1)
        else:
            if self._tries:
                self._told.clear()  # it was mended
            self._single, self._tries, self._wait = False, 0, 0.0
        return True

    def end(self, blame: str) -> None:
        """Take in that the connection is over.

        Args:
            blame: how the broker closed it, if that may have been because of a message.
        """
        under_way = list(self._in_flight.values())
        self._in_flight.clear()
        if blame and self._single and not self._again and under_way and self._fail(under_way[0]):
            advice = _advice(self._broker, self._topic, blame)
            self._tell(f"closed the connection {_TRIES} times at the same event ({blame}), which was dropped; {advice}")
        self._single = self._single or bool(under_way)
        self._begin_again()

    def _may_send(self, connection: Connection) -> bool:
        return bool(self._rows) and not self._again and (connection.idle if self._single else connection.room > 0)

    def _begin_again(self) -> None:
        """With the oldest event that has not arrived."""
        self._forget_delivered()
        self._rows.clear()
        self._last, self._again = 0, False

    def _fail(self, row: Row, tries: int = _TRIES) -> bool:
        """Wait until an event is offered again, or give it up; whether it was given up."""
        if row.id != self._suspect:
            self._suspect, self._tries = row.id, 0
        self._tries += 1
        shortest, longest = self._backoff
        self._wait = min(longest, 4 * self._wait or shortest)
        if self._tries >= tries and self._outbox.drop(row.id):
            self._tries, self._next = 0, clock.monotonic() + self._interval
            return True
        self._next = clock.monotonic() + self._wait
        return False

    def _forget_delivered(self) -> None:
        """Take from the outbox what has arrived."""
        self._outbox.done(self._delivered)
        self._delivered.clear()

    def _tell(self, trouble: str) -> None:
        """Log what becomes of events, once for each cause until it was mended."""
        if trouble not in self._told:
            logger.warning("%s: %s", self._broker.address, trouble)
            self._told.add(trouble)


def _advice(broker: Broker, topic: str, refused: str) -> str:
    """What to do where a broker refuses messages to a topic."""
    if refused == "Not authorized":
        user = broker.address.user
        return f"have it let {f'the user {user}' if user else 'clients without a user'} publish to {topic}"
    return "its log may say why"


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
    connection = connect(broker, f"{MessageFactory(node, settings.topic_prefix).identity}-check", timeout=timeout)
    user = f"as {broker.address.user}" if broker.address.user else "without a user"
    reached = f"{connection}, logged in {user}"
    connection.disconnect(timeout)
    return reached


def forget_node(settings: MqttSettings, topics: MessageFactory, timeout: float = 10.0) -> str:
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
    connection = connect(Broker(settings), f"{topics.identity}-forget", timeout=timeout)
    reached = str(connection)
    try:
        connection.deliver([removal_message(topics, settings.ha_discovery_prefix), *topics.removals()], timeout)
    finally:
        connection.disconnect(timeout)
    return reached
