"""An MQTT broker: its address, the login, one connection to it, and in plain words why there is none."""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import select
import socket
import ssl
import time as clock
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, LogLevel, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fer_edge.errors import BrokerError, InputError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from fer_edge_device.config.settings import MqttSettings
    from fer_edge_device.messages import Message

logger = logging.getLogger(__name__)

_WINDOW: Final = 20  # most messages that are sent and not yet answered
_FORM: Final = "mqtt://[user@]host[:port] or mqtts://..."
_LARGEST: Final = 65_536  # bytes of a message to us, where the version lets us say so; a stranger could send 256 MB
_SOON: Final = 10.0  # seconds after the login
_TICK: Final = 0.2  # seconds between two looks at whether a login is still wanted
# MQTT 5's reasons for a disconnection that can be about a message: not authorised, too large, against the protocol ...
_OF_A_MESSAGE: Final = frozenset({0x80, 0x81, 0x82, 0x83, 0x87, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B})
# How the system, or OpenSSL, says that the other side has closed the connection.
_HUNG_UP: Final = (f"[Errno {errno.ECONNRESET}]", f"[Errno {errno.EPIPE}]", "EOF occurred")
_NAMES: Final = {MQTTProtocolVersion.MQTTv5: "MQTT 5", MQTTProtocolVersion.MQTTv311: "MQTT 3.1.1"}
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH.
_WRONG_TIME: Final = (9, 10)
_WRONG_NAME: Final = (62, 64)


@dataclass(frozen=True)
class Address:
    """Where a broker is.

    Attributes:
        host: name or IP address.
        port: 1..65535.
        tls: whether the connection is encrypted.
        user: who logs in; empty for nobody.
    """

    host: str
    port: int
    tls: bool
    user: str

    def __str__(self) -> str:
        """The address as it may be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


def parse_url(url: str) -> Address:
    """The parts of ``mqtt://[user@]host[:port]`` or ``mqtts://...``.

    Raises:
        InputError: it is none; the message repeats nothing that could be a password.
    """
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in {"mqtt", "mqtts"}:
        raise InputError(f"mqtt.url: an address looks like {_FORM}")
    login, _, place = rest.rpartition("@")
    if ":" in login:
        raise InputError(
            "mqtt.url: a password does not belong in an address; put it in a file, and its name in mqtt.password_file"
        )
    try:
        parts = urlsplit(f"//{place}")
        host, port = parts.hostname or "", parts.port
    except ValueError:  # whose words repeat what may be a password
        raise InputError(
            f"mqtt.url: an address looks like {_FORM}; a port is 1 to 65535, an IPv6 address [in brackets]"
        ) from None
    if not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise InputError(f"mqtt.url: an address looks like {_FORM}, with nothing after it")
    tls = scheme.lower() == "mqtts"
    return Address(host, port or (8883 if tls else 1883), tls, unquote(login))


class Broker:
    """What is configured about a broker.

    Attributes:
        address: where it is.
        keepalive: seconds of silence after which a connection is checked.
    """

    def __init__(self, settings: MqttSettings) -> None:
        """Check the settings.

        Raises:
            InputError: the address, or a file, cannot be used.
        """
        self._settings = settings
        self.address = parse_url(settings.url)
        self.keepalive = settings.keepalive_s
        for key in ("ca_file", "cert_file", "key_file"):
            if getattr(settings, key) and not self.address.tls:
                raise InputError(f"mqtt.{key} is for encrypted connections; begin mqtt.url with mqtts://")
        if settings.key_file and not settings.cert_file:
            raise InputError("mqtt.key_file needs its certificate: set mqtt.cert_file")
        if self.password() and not self.address.user:
            raise InputError("there is a password for the broker, and nobody it belongs to; use mqtt://user@host")
        self.tls_context()

    def password(self) -> str | None:
        """What the login needs, read anew each time; None for a login without.

        Raises:
            InputError: the file cannot be read.
        """
        if path := self._settings.password_file:
            said = "mqtt.password_file"
        elif folder := os.environ.get("CREDENTIALS_DIRECTORY"):
            path, said = f"{folder}/mqtt-password", "the credential mqtt-password"
            if not Path(path).exists():
                return None
        else:
            return None
        try:
            password = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise InputError(f"{path}: {said} cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: {said} is no text in UTF-8") from error
        if not password:
            raise InputError(f"{path}: {said} is empty")
        return password

    def tls_context(self) -> ssl.SSLContext | None:
        """Whom to trust and who we are, read anew each time; None for a connection that is not encrypted.

        Raises:
            InputError: a certificate or key cannot be used.
        """
        if not self.address.tls:
            return None
        authorities, certificate, key = self._settings.ca_file, self._settings.cert_file, self._settings.key_file
        try:
            context = ssl.create_default_context(cafile=authorities or None)
        except OSError as error:
            raise InputError(f"{authorities}: mqtt.ca_file cannot be used ({_said(error)})") from error
        context.sslsocket_class = _TidySocket
        if certificate:
            try:
                context.load_cert_chain(certificate, key or None, password=_no_password)
            except OSError as error:
                raise InputError(
                    f"{certificate}: mqtt.cert_file and key_file cannot be used ({_said(error)})"
                ) from error
        return context


class Answer(NamedTuple):
    """A broker's answer to a message of ours.

    Attributes:
        number: which message, as `Connection.send` numbered it.
        refused: why the broker did not take it; empty when it did.
    """

    number: int
    refused: str


class Received(NamedTuple):
    """A message that was subscribed to."""

    topic: str
    payload: bytes
    retained: bool


class Connection:
    """One connection, from login to loss; it is never opened again.

    Of one thread alone, which calls `step` all the time.

    Attributes:
        blame: how the broker closed the connection, if that may have been because of a message; else empty.
    """

    def __init__(
        self,
        broker: Broker,
        client: str,
        protocol: MQTTProtocolVersion,
        will: Message | None,
        *,
        timeout: float,
        until: Callable[[], float],
    ) -> None:
        """Connect and log in.

        Args:
            broker: to which.
            client: who we are; another connection with this name is closed by the broker.
            protocol: the version that is spoken.
            will: what the broker publishes when the connection is lost.
            timeout: seconds for each step of the way.
            until: up to when, on the monotonic clock, the login is wanted; asked again and again.

        Raises:
            BrokerError: there is no connection; says why.
        """
        self._window, self._unanswered = _WINDOW, 0
        self._until = until
        self._answers: list[Answer] = []
        self._received: list[Received] = []
        self._address = broker.address
        self._protocol = protocol
        self._welcome: ReasonCode | None = None
        self._since = clock.monotonic()
        self.blame = self._parting = self._paho_error = ""
        self._subscriptions: dict[int, Sequence[str]] = {}
        self._client = self._make_client(broker, client, will)
        self._client.connect_timeout = timeout
        try:
            self._client.connect(broker.address.host, broker.address.port, broker.keepalive, properties=self._wishes())
            began = clock.monotonic()
            while self._welcome is None:
                waited = clock.monotonic() - began
                if waited >= timeout or began + waited >= until():
                    raise self._error(f"gave no answer to the login for {waited:.0f} s")
                self.step(min(timeout - waited, _TICK))
        except (OSError, ValueError) as error:
            self.drop()
            raise self._error(_why(error, tls=broker.address.tls)) from error
        except BrokerError:
            self.drop()
            raise

    def _wishes(self) -> Properties | None:
        if self._protocol != MQTTProtocolVersion.MQTTv5:
            return None
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.MaximumPacketSize = _LARGEST
        return wishes

    def _make_client(self, broker: Broker, name: str, will: Message | None) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=self._protocol, reconnect_on_failure=False
        )
        client.max_inflight_messages_set(_WINDOW)
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
        """What is connected to, and how."""
        transport = self._client.socket()
        tls = f", {transport.version()}" if isinstance(transport, ssl.SSLSocket) else ""
        return f"{self._address} ({_NAMES[self._protocol]}{tls})"

    @property
    def age(self) -> float:
        """Seconds since the login."""
        return clock.monotonic() - self._since

    @property
    def idle(self) -> bool:
        """Whether every message has been answered."""
        return not self._unanswered

    @property
    def room(self) -> int:
        """How many messages may be sent before an answer must come."""
        return self._window - self._unanswered

    def send(self, topic: str, payload: bytes, qos: int, *, retain: bool) -> int:
        """Send a message.

        Returns:
            Its number, which the answer to it carries.
        """
        self._unanswered += 1
        return self._client.publish(topic, payload, qos, retain).mid

    def deliver(self, messages: Sequence[Message], timeout: float) -> None:
        """Send messages of QoS 1 and wait for the answers.

        Raises:
            BrokerError: one was refused, or not answered in time.
        """
        waiting = list(messages)
        numbers: dict[int, str] = {}
        deadline = clock.monotonic() + timeout
        while waiting or numbers:
            while waiting and self.room > 0:
                message = waiting.pop(0)
                numbers[self.send(message.topic, message.body(), 1, retain=message.retain)] = message.topic
            if (left := deadline - clock.monotonic()) <= 0:
                raise self._error(f"did not take a message within {timeout:.0f} s")
            self.step(left)
            for answer in self.take_answers():
                topic = numbers.pop(answer.number, "")
                if answer.refused:
                    raise self._error(f"refuses a message to {topic} ({answer.refused})")

    def take_answers(self) -> list[Answer]:
        """Answers to messages since the last time; one to a message of QoS 0 says only that it was sent."""
        taken, self._answers = self._answers, []
        return taken

    def take_received(self) -> list[Received]:
        """Messages that came since the last time."""
        taken, self._received = self._received, []
        return taken

    def subscribe(self, topics: Sequence[str]) -> None:
        """Ask for the messages of topics, QoS 1."""
        _, number = self._client.subscribe([(topic, 1) for topic in topics])
        if number is not None:
            self._subscriptions[number] = topics

    def step(self, timeout: float, wake: int | None = None) -> None:
        """Wait for something to happen, and let it.

        Args:
            timeout: seconds, at most.
            wake: a file descriptor that ends the waiting when it can be read.

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
        # What TLS has decrypted already, the system does not report.
        pending = self._address.tls and transport.pending() > 0
        events = dict(poll.poll(0 if pending else timeout * 1e3)).get(transport.fileno(), 0)
        if pending or events & ~select.POLLOUT:
            self._client.loop_read()
        if events & select.POLLOUT:
            self._client.loop_write()
        self._client.loop_misc()
        if self._client.socket() is None:
            raise self._lost()

    def disconnect(self, timeout: float) -> None:
        """Take leave, so that the will is not published."""
        deadline = clock.monotonic() + timeout
        self._client.disconnect()
        with contextlib.suppress(BrokerError):
            while (left := deadline - clock.monotonic()) > 0:
                self.step(left)
        self.drop()

    def drop(self) -> None:
        """Close without taking leave."""
        if (transport := self._client.socket()) is not None:
            transport.close()

    def _lost(self) -> BrokerError:
        """Why the connection is no more, or never was."""
        if "CERTIFICATE_REQUIRED" in self._paho_error:
            return self._error("wants a client certificate; set mqtt.cert_file and mqtt.key_file")
        if self._welcome is None:
            what = "does it want mqtt.cert_file" if self._address.tls else "is it the port for mqtts://"
            return _OtherVersionError(
                f"{self._address}: closed the connection without an answer; {what}, or no broker?"
            )
        if self._welcome == "Unsupported protocol version":
            return _OtherVersionError(f"{self._address}: speaks neither MQTT 5 nor 3.1.1")
        if self._welcome.is_failure:
            return self._error(f"refuses the login ({self._welcome}){self._advice()}")
        # Not every broker says that it is because of another client of this name, or of a message.
        unsaid = self.age < _SOON and self._parting in {"closed by the broker", "Session taken over"}
        advice = "; may it publish there, and has another device the same node?" if unsaid else ""
        return self._error(f"connection lost ({self._paho_error or self._parting}){advice}")

    def _advice(self) -> str:
        if str(self._welcome) not in {"Bad user name or password", "Not authorized"}:
            return ""
        user = self._address.user
        return f"; check the user {user} and the password" if user else "; mqtt.url names no user: mqtt://user@host"

    def _error(self, why: str) -> BrokerError:
        return BrokerError(f"{self._address}: {why}")

    def _on_socket_open(self, _client: paho.Client, _data: object, _transport: object) -> None:
        if clock.monotonic() >= self._until():  # to log in now would throw out who has come in our place
            raise self._error("answered too late")

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._welcome, self._since = reason, clock.monotonic()
        self._window = min(_WINDOW, getattr(properties, "ReceiveMaximum", _WINDOW))  # paho does not look at it

    def _on_disconnect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        lost = str(reason) == "Unspecified error"
        self._parting = "closed by the broker" if lost else str(reason)
        if flags.is_disconnect_packet_from_server:
            blamed = reason.value in _OF_A_MESSAGE
        else:
            blamed = lost and (not self._paho_error or any(sign in self._paho_error for sign in _HUNG_UP))
        self.blame = self._parting if blamed else ""

    def _on_publish(
        self, _client: paho.Client, _data: object, number: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._unanswered -= 1
        self._answers.append(Answer(number, str(reason) if reason.is_failure else ""))

    def _on_subscribe(
        self, _client: paho.Client, _data: object, number: int, reasons: list[ReasonCode], _properties: Properties
    ) -> None:
        for topic, reason in zip(self._subscriptions.pop(number), reasons, strict=True):
            if reason.is_failure:
                logger.warning("%s: may not listen to %s (%s)", self._address, topic, reason)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._received.append(Received(message.topic, bytes(message.payload), message.retain))

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        if level == LogLevel.MQTT_LOG_ERR:
            self._paho_error = text


def connect(
    broker: Broker,
    client: str,
    *,
    will: Message | None = None,
    timeout: float = 10.0,
    until: Callable[[], float] = lambda: math.inf,
) -> Connection:
    """Connect with MQTT 5, or with 3.1.1 to a broker that does not know it.

    Args:
        broker: to which.
        client: who we are.
        will: what the broker publishes when the connection is lost.
        timeout: seconds for each step of the way.
        until: up to when, on the monotonic clock, the login is wanted; asked again and again.

    Raises:
        BrokerError: there is no connection; says why.
        InputError: the file of a password or certificate can no longer be used.
    """
    try:
        return Connection(broker, client, MQTTProtocolVersion.MQTTv5, will, timeout=timeout, until=until)
    except _OtherVersionError:
        return Connection(broker, client, MQTTProtocolVersion.MQTTv311, will, timeout=timeout, until=until)


class _OtherVersionError(BrokerError):
    """Raised when the broker might speak another version of MQTT."""


class _TidySocket(ssl.SSLSocket):
    """A socket that is closed when its handshake fails: paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the base class's
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _no_password() -> str:
    raise InputError("mqtt.key_file is encrypted, and nobody is there to type its password; decrypt it")


def _said(error: OSError) -> str:
    return (error.reason or first_line(error)) if isinstance(error, ssl.SSLError) else error.strerror or str(error)


def _why(error: OSError | ValueError, *, tls: bool) -> str:
    """What kept a connection from coming about, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "if it is your own, give the certificate of who signed it as mqtt.ca_file"
        if error.verify_code in _WRONG_NAME:
            advice = "use a name that the certificate is for"
        elif error.verify_code in _WRONG_TIME:
            advice = "renew it, or set this machine's clock"
        return f"its certificate is refused ({error.verify_message.rstrip('.')}); {advice}"
    if isinstance(error, ConnectionRefusedError):
        return "refuses the connection; is a broker running there?"
    if isinstance(error, ssl.SSLError) or (tls and isinstance(error, ConnectionError)):
        return f"no TLS there ({_said(error)}); is it the port for mqtt://, without encryption?"
    if isinstance(error, socket.gaierror):
        return f"its name is not known ({error.strerror}); check it, and the network"
    if isinstance(error, TimeoutError):
        return "does not answer; check the address, the network and firewalls"
    return f"cannot be reached ({_said(error) if isinstance(error, OSError) else first_line(error)})"
