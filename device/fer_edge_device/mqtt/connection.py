"""One connection to an MQTT broker, from the login to its end."""

from __future__ import annotations

import contextlib
import errno
import logging
import select
import ssl
import time as clock
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fer_edge.errors import BrokerError
from fer_edge.utils.words import listed
from fer_edge_device.mqtt.bounded_client import MAX_PACKET, PACKET_TOO_LARGE, BoundedClient, LargeMessage
from fer_edge_device.mqtt.failures import explain_failure, refusal_advice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import paho.mqtt.client as paho
    from paho.mqtt.reasoncodes import ReasonCode

    from fer_edge_device.messages import Message
    from fer_edge_device.mqtt.broker import Broker

logger = logging.getLogger(__name__)

_MAX_IN_FLIGHT: Final = 20  # messages that are sent and not yet acknowledged
_SOON: Final = 10.0  # seconds after the login
_POLL_INTERVAL: Final = 0.2  # seconds between checks of the login's deadline
_MAX_READS: Final = 100  # reads of one step; an OFF behind a flood of other messages must not wait for each of them
# The reason codes of MQTT 5 for a disconnection that a message can cause: not authorized, too large, malformed ...
_MESSAGE_REASONS: Final = frozenset({0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B})
# The errors of the system and of OpenSSL after the other side has closed the connection.
_CLOSED_BY_PEER: Final = (f"[Errno {errno.ECONNRESET}]", f"[Errno {errno.EPIPE}]", "EOF occurred")
VERSION_NAMES: Final = {MQTTProtocolVersion.MQTTv5: "MQTT 5", MQTTProtocolVersion.MQTTv311: "MQTT 3.1.1"}


class PublishAck(NamedTuple):
    """The broker's acknowledgement of a message.

    Attributes:
        message_id: the message's number, as returned by `Connection.send`.
        topic: the message's topic.
        refusal: why the broker refused the message; empty if it accepted it.
    """

    message_id: int
    topic: str
    refusal: str


class Received(NamedTuple):
    """A message of a subscribed topic."""

    topic: str
    payload: bytes
    retained: bool


class Connection:
    """One connection; a new one is needed after it is lost.

    Not thread-safe: one thread uses it and calls `step` again and again.

    Attributes:
        close_reason: how the broker closed the connection, if a message may have caused that; otherwise empty.
        max_in_flight: how many messages may be sent and not yet acknowledged.
        version: the version of MQTT.
    """

    def __init__(
        self,
        broker: Broker,
        client_id: str,
        protocol: MQTTProtocolVersion,
        will: Message | None,
        *,
        timeout: float,
        deadline: Callable[[], float],
    ) -> None:
        """Connect and log in.

        Args:
            broker: the broker.
            client_id: our name; the broker closes any other connection of this name.
            protocol: the version of MQTT.
            will: the message that the broker publishes when the connection is lost.
            timeout: seconds for each step of the login.
            deadline: returns the time on the monotonic clock at which the login is abandoned; called repeatedly.

        Raises:
            BrokerError: the connection failed; says why.
        """
        self.max_in_flight = _MAX_IN_FLIGHT
        self._unacknowledged: dict[int, str] = {}
        self._deadline = deadline
        self._acks: list[PublishAck] = []
        self._received: list[Received] = []
        self._address = broker.address
        self.version = protocol
        self._login_reason: ReasonCode | None = None
        self._login_time = clock.monotonic()
        self.close_reason = self._disconnect_reason = self._paho_error = ""
        self._subscriptions: dict[int, Sequence[str]] = {}
        self._client = self._make_client(broker, client_id, will)
        self._client.connect_timeout = timeout
        try:
            address = broker.address
            self._client.connect(address.host, address.port, broker.keepalive, properties=self._connect_properties())
            start = clock.monotonic()
            while self._login_reason is None:
                waited = clock.monotonic() - start
                if start + waited >= deadline():
                    raise self._error(f"did not answer the login within {waited:.0f} s")
                if waited >= timeout:  # some brokers do not answer in a version that they do not know
                    raise OtherVersionError(f"{self._address}: did not answer the login within {waited:.0f} s")
                self.step(min(timeout - waited, _POLL_INTERVAL))
        except (OSError, ValueError) as error:
            self.drop()
            raise self._error(explain_failure(error, tls=broker.address.tls)) from error
        except BrokerError:
            self.drop()
            raise

    def _connect_properties(self) -> Properties | None:
        if self.version != MQTTProtocolVersion.MQTTv5:
            return None
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAX_PACKET
        return properties

    def _make_client(self, broker: Broker, client_id: str, will: Message | None) -> BoundedClient:
        client = BoundedClient(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=self.version, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(_MAX_IN_FLIGHT)
        if broker.address.user:
            client.username_pw_set(broker.address.user, broker.password())
        if (context := broker.tls_context()) is not None:
            client.tls_set_context(context)
        if will is not None:
            client.will_set(will.topic, will.body(), will.qos, will.retain)
        client.on_socket_open = self._on_socket_open
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        return client

    def __str__(self) -> str:
        """Return the address and the protocol of the connection."""
        transport = self._client.socket()
        tls = f", {transport.version()}" if isinstance(transport, ssl.SSLSocket) else ""
        return f"{self._address} ({VERSION_NAMES[self.version]}{tls})"

    @property
    def age(self) -> float:
        """Seconds since the login."""
        return clock.monotonic() - self._login_time

    @property
    def idle(self) -> bool:
        """Whether every message has been acknowledged."""
        return not self._unacknowledged

    @property
    def room(self) -> int:
        """How many messages may be sent before the next acknowledgement."""
        return self.max_in_flight - len(self._unacknowledged)

    @property
    def subscribed(self) -> bool:
        """Whether the broker has answered every subscription."""
        return not self._subscriptions

    def send(self, topic: str, payload: bytes, qos: int, *, retain: bool, expires_in: float | None = None) -> int:
        """Send a message.

        Args:
            topic: the whole topic.
            payload: the encoded message.
            qos: MQTT quality of service.
            retain: whether the broker keeps the message for later subscribers.
            expires_in: seconds after which the broker, if it speaks MQTT 5, no longer gives the message to a subscriber
                who comes late; None: never.

        Returns:
            Its number, which the acknowledgement repeats.
        """
        properties = None
        if expires_in is not None and self.version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, int(expires_in))
        number = self._client.publish(topic, payload, qos, retain, properties).mid
        # The client may have sent a message with QoS 0 already, and no broker acknowledges it.
        if qos:
            self._unacknowledged[number] = topic
        return number

    def deliver(self, messages: Sequence[Message], timeout: float) -> None:
        """Send messages with QoS 1 and wait for the acknowledgements.

        Raises:
            BrokerError: a message was refused, or not acknowledged in time.
        """
        waiting = list(messages)
        topics: dict[int, str] = {}
        deadline = clock.monotonic() + timeout
        while waiting or topics:
            while waiting and self.room > 0:
                message = waiting.pop(0)
                topics[self.send(message.topic, message.body(), 1, retain=message.retain)] = message.topic
            if (left := deadline - clock.monotonic()) <= 0:
                raise self._error(f"did not acknowledge a message within {timeout:.0f} s")
            self.step(left)
            for ack in self.take_acks():
                topic = topics.pop(ack.message_id, "")
                if ack.refusal:
                    advice = refusal_advice(self._address.user, [topic], ack.refusal)
                    raise self._error(f"refused a message to {topic} ({ack.refusal}); {advice}")

    def take_acks(self) -> list[PublishAck]:
        """Return the acknowledgements since the last call; one for QoS 0 says only that the message was sent."""
        acks, self._acks = self._acks, []
        return acks

    def take_received(self) -> list[Received]:
        """Return the messages that arrived since the last call."""
        received, self._received = self._received, []
        return received

    def subscribe(self, topics: Sequence[str], qos: int = 1) -> None:
        """Subscribe to topics."""
        _, number = self._client.subscribe([(topic, qos) for topic in topics])
        if number is not None:
            self._subscriptions[number] = topics

    def step(self, timeout: float, wake: int | None = None) -> None:
        """Wait for the network and handle what arrives.

        Args:
            timeout: maximum seconds to wait.
            wake: a file descriptor that ends the wait when it becomes readable.

        Raises:
            BrokerError: the connection is lost; says why.
        """
        transport: Any = self._client.socket()
        if transport is None:
            raise self._lost()
        poll = select.poll()
        poll.register(transport, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        if wake is not None:
            poll.register(wake, select.POLLIN)
        # The system does not report data that TLS has already decrypted.
        pending = self._address.tls and transport.pending() > 0
        events = dict(poll.poll(0 if pending else timeout * 1e3)).get(transport.fileno(), 0)
        if pending or events & ~select.POLLOUT:
            self._read()
        if events & select.POLLOUT:
            self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None:
            raise self._lost()

    def _read(self) -> None:
        """Read the messages that have arrived, but leave some for the next step if they are many."""
        for _ in range(_MAX_READS):
            self._client.loop_read()
            transport: Any = self._client.socket()
            if transport is None:
                return
            readable = select.poll()
            readable.register(transport, select.POLLIN)
            if not (self._address.tls and transport.pending() > 0) and not readable.poll(0):
                return

    def disconnect(self, timeout: float) -> None:
        """Disconnect properly, so that the broker does not publish the will."""
        deadline = clock.monotonic() + timeout
        self._client.disconnect()
        with contextlib.suppress(BrokerError):
            while (left := deadline - clock.monotonic()) > 0:
                self.step(left)
        self.drop()

    def drop(self) -> None:
        """Close the connection at once."""
        if (transport := self._client.socket()) is not None:
            transport.close()

    def _lost(self) -> BrokerError:
        """Return why the connection ended or failed."""
        if "CERTIFICATE_REQUIRED" in self._paho_error:
            return self._error("requires a client certificate; set mqtt.cert_file and mqtt.key_file")
        if PACKET_TOO_LARGE in self._paho_error:
            return self._too_large()
        if self._login_reason is None:
            hint = "does it require mqtt.cert_file" if self._address.tls else "is this its port for mqtts://"
            return OtherVersionError(
                f"{self._address}: closed the connection without an answer; {hint}, or is it no broker?"
            )
        if self._login_reason == "Unsupported protocol version":
            return OtherVersionError(f"{self._address}: does not support {VERSION_NAMES[self.version]}")
        if self._login_reason.is_failure:
            return self._error(f"refused the login ({self._login_reason}){self._login_advice()}")
        # Not every broker says that the cause is another client of this name, or a message.
        is_unclear = self.age < _SOON and self._disconnect_reason in {"closed by the broker", "Session taken over"}
        hint = "; may this user publish there, and does another device have the same node name?" if is_unclear else ""
        return self._error(f"connection lost ({self._paho_error or self._disconnect_reason}){hint}")

    def _too_large(self) -> BrokerError:
        if message := self._client.large_message:
            return PacketTooLargeError(f"{self._address}: {PACKET_TOO_LARGE}", message)
        return self._error(f"{PACKET_TOO_LARGE}; is it a broker?")

    def _login_advice(self) -> str:
        if str(self._login_reason) not in {"Bad user name or password", "Not authorized"}:
            return ""
        user = self._address.user
        return f"; check the user {user} and the password" if user else "; mqtt.url names no user; use mqtt://user@host"

    def _error(self, reason: str) -> BrokerError:
        return BrokerError(f"{self._address}: {reason}")

    def _on_socket_open(self, _client: paho.Client, _data: object, _transport: object) -> None:
        if clock.monotonic() >= self._deadline():  # a late login would disconnect the client that replaced this one
            raise self._error("answered too late")

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._login_reason, self._login_time = reason, clock.monotonic()
        # paho ignores this limit.
        self.max_in_flight = min(_MAX_IN_FLIGHT, getattr(properties, "ReceiveMaximum", _MAX_IN_FLIGHT))

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        is_unspecified = str(reason) == "Unspecified error"
        self._disconnect_reason = "closed by the broker" if is_unspecified else str(reason)
        if flags.is_disconnect_packet_from_server:
            by_message = reason.value in _MESSAGE_REASONS
        else:
            by_message = is_unspecified and (
                not self._paho_error or any(sign in self._paho_error for sign in _CLOSED_BY_PEER)
            )
        self.close_reason = self._disconnect_reason if by_message else ""

    def _on_publish(
        self, _client: paho.Client, _data: object, number: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        topic = self._unacknowledged.pop(number, "")
        self._acks.append(PublishAck(number, topic, str(reason) if reason.is_failure else ""))

    def _on_subscribe(
        self, _client: paho.Client, _data: object, number: int, reasons: list[ReasonCode], _properties: Properties
    ) -> None:
        refused: dict[str, list[str]] = {}
        for topic, reason in zip(self._subscriptions.pop(number), reasons, strict=True):
            if reason.is_failure:
                refused.setdefault(str(reason), []).append(topic)
        for reason_text, topics in refused.items():
            logger.warning("%s: refused the subscription to %s (%s)", self._address, listed(topics), reason_text)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._received.append(Received(message.topic, bytes(message.payload), message.retain))

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._paho_error = text


class OtherVersionError(BrokerError):
    """Raised when the broker may support another version of MQTT."""


class PacketTooLargeError(BrokerError):
    """Raised when a message ended the connection because of its length.

    Attributes:
        large_message: its topic, and whether it is retained.
    """

    def __init__(self, problem: str, large_message: LargeMessage) -> None:
        """Store the problem and the message."""
        super().__init__(problem)
        self.large_message = large_message
