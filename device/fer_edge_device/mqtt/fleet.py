"""The nodes at a broker, and how each of them is, from the messages that the broker keeps."""

from __future__ import annotations

import re
import secrets
import time as clock
from typing import TYPE_CHECKING, Final, Literal, Self

import msgspec

from fer_edge.errors import BrokerError
from fer_edge_device.config.settings import NODE_NAME
from fer_edge_device.messages import Availability, CameraStatus, Kind, model_id
from fer_edge_device.mqtt.broker import Broker
from fer_edge_device.mqtt.login import connect

if TYPE_CHECKING:
    from types import TracebackType

    from fer_edge_device.config.settings import MqttSettings
    from fer_edge_device.mqtt.connection import Received

NodeState = Literal["online", "camera stalled", "no camera", "switched off", "offline"]

_KINDS: Final[tuple[Kind, ...]] = ("availability", "info", "camera", "enabled/state", "stats")
_STATES: Final[dict[str, NodeState]] = {
    "stalled": "camera stalled",
    "offline": "no camera",
    "disabled": "switched off",
}
MAX_NODES: Final = 10_000  # anybody who may publish at the broker can invent nodes
_MAX_TEXT: Final = 64  # characters of a version or of a model's name
_QUIET_S: Final = 0.3  # a broker that has sent nothing for so long has sent all that it keeps
_FIRST_TIME: Final = 1e9  # smaller times are seconds of a video


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a node is. What it has never said is None.

    Attributes:
        node: its name.
        state: ``online``; ``camera stalled`` or ``no camera`` while it waits for its camera; ``switched off``; or
            ``offline``. Of an offline node, everything else is as it was before.
        version: version of fer-edge.
        model: name of the model and the first digits of its SHA-256.
        fps: frames processed per second.
        temp_c: temperature of the processor, in degrees Celsius.
        throttled: flags of the Raspberry Pi firmware for low voltage and throttling.
        queued: number of events that wait for the broker.
        dropped_events: number of events that were dropped since the outbox was created.
        last_seen: when it last sent its stats, in seconds since 1970 by its own clock.
    """

    node: str
    state: NodeState
    version: str | None
    model: str | None
    fps: float | None
    temp_c: float | None
    throttled: int | None
    queued: int | None
    dropped_events: int | None
    last_seen: float | None


class _Info(msgspec.Struct, frozen=True):
    """What is kept of an ``info`` message."""

    version: str
    model: str
    model_sha256: str


class _Stats(msgspec.Struct, frozen=True):
    """What is kept of a ``stats`` message."""

    time: float
    fps: float
    temp_c: float | None
    throttled: int | None
    queued: int
    dropped_events: int


_INFO: Final = msgspec.json.Decoder(_Info)
_STATS: Final = msgspec.json.Decoder(_Stats)


class _Node:
    """What was received of a node."""

    def __init__(self) -> None:
        """Know nothing."""
        self._availability: Availability = "offline"
        self._camera: CameraStatus | None = None
        self._enabled = True
        self._version: str | None = None
        self._model: str | None = None
        self._stats: _Stats | None = None

    def update(self, kind: str, payload: bytes) -> None:
        """Keep what a message says.

        Raises:
            MsgspecError: the payload is not of this kind.
            UnicodeDecodeError: it is not a text.
        """
        if kind == "info":
            info = _INFO.decode(payload)
            self._version, self._model = _text(info.version), _text(model_id(info.model, info.model_sha256))
        elif kind == "stats":
            self._stats = _STATS.decode(payload)
        elif kind == "camera":
            self._camera = msgspec.convert(payload.decode(), CameraStatus)
        elif kind == "enabled/state":
            self._enabled = payload != b"OFF"
        else:
            self._availability = msgspec.convert(payload.decode(), Availability)

    def report(self, name: str) -> NodeReport:
        """Return how the node is."""
        stats = self._stats
        return NodeReport(
            node=name,
            state=self._state(),
            version=self._version,
            model=self._model,
            fps=stats.fps if stats else None,
            temp_c=stats.temp_c if stats else None,
            throttled=stats.throttled if stats else None,
            queued=stats.queued if stats else None,
            dropped_events=stats.dropped_events if stats else None,
            last_seen=stats.time if stats and stats.time >= _FIRST_TIME else None,
        )

    def _state(self) -> NodeState:
        if self._availability == "offline":
            return "offline"
        if not self._enabled:
            return "switched off"
        return _STATES.get(self._camera or "", "online")


class Fleet:
    """A connection to a broker that follows all of its nodes.

    Use it as a context manager. Not thread-safe.

    Attributes:
        is_complete: whether no node was left out, because there were too many.
    """

    def __init__(self, settings: MqttSettings, timeout: float = 10.0) -> None:
        """Log in.

        Args:
            settings: the broker, the login, and the first part of all topics.
            timeout: seconds for each step of the login, and for the broker's answer to each subscription.

        Raises:
            InputError: a setting cannot be used.
            BrokerError: the connection failed; says why.
        """
        self._prefix, self._timeout = settings.topic_prefix, timeout
        self._topic = re.compile(rf"{re.escape(self._prefix)}/([^/]+)/({'|'.join(_KINDS)})")
        self._nodes: dict[str, _Node] = {}
        self.is_complete = True
        self._connection = connect(Broker(settings), f"fer-edge-fleet-{secrets.token_hex(4)}", timeout=timeout)

    def __enter__(self) -> Self:
        """Return the fleet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        self._connection.disconnect(1.0)

    def __str__(self) -> str:
        """Return the broker's address and the version of MQTT."""
        return str(self._connection)

    def load(self) -> None:
        """Read what the broker keeps, and subscribe to what will come.

        Raises:
            BrokerError: the connection is lost, or the broker does not answer; says why.
        """
        asked = clock.monotonic()
        # With quality of service 1, Mosquitto drops what it keeps if more than 1,000 messages wait for one client.
        self._connection.subscribe([f"{self._prefix}/+/{kind}" for kind in _KINDS], qos=0)
        while not self._connection.subscribed:
            if clock.monotonic() - asked > self._timeout:
                raise BrokerError(f"{self._connection}: did not answer within {self._timeout:.0f} s")
            self._receive(self._timeout)
        # The farther the broker, the longer the gaps between the messages that it sends.
        last = clock.monotonic()
        quiet = max(_QUIET_S, 3 * (last - asked))
        while (left := last + quiet - clock.monotonic()) > 0:
            if any(message.retained for message in self._receive(left)):  # others never end
                last = clock.monotonic()

    def follow(self, seconds: float) -> bool:
        """Wait for messages, until one has arrived or the time is over.

        Returns:
            Whether one has arrived.

        Raises:
            BrokerError: the connection is lost; says why.
        """
        deadline = clock.monotonic() + seconds
        while (left := deadline - clock.monotonic()) > 0:
            if self._receive(left):
                return True
        return False

    def reports(self) -> list[NodeReport]:
        """Return how each node is, in the order of their names."""
        return [node.report(name) for name, node in sorted(self._nodes.items())]

    def _receive(self, timeout: float) -> list[Received]:
        """Wait up to some seconds for messages, and return those that were handled."""
        self._connection.step(timeout)
        received = self._connection.take_received()
        for message in received:
            self._handle(message)
        return received

    def _handle(self, message: Received) -> None:
        match = self._topic.fullmatch(message.topic)
        if match is None or not re.fullmatch(NODE_NAME, match[1]):
            return
        name, kind = match[1], match[2]
        if not message.payload:  # `fer-edge mqtt forget`
            if kind == "availability":
                self._nodes.pop(name, None)
            return
        if name not in self._nodes and len(self._nodes) >= MAX_NODES:
            self.is_complete = False
            return
        try:
            self._nodes.setdefault(name, _Node()).update(kind, message.payload)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # not ours, or of a version that is too old or too new
            return


def _text(text: str) -> str:
    """Return a text of a bounded length."""
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…"
