"""The messages of the runner: what each topic carries.

A line of standard output is one message, ready to publish; see `Message`.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from fer_edge.errors import InputError
from fer_edge_device.config.settings import NODE_NAME, MqttSettings

SCHEMA: Final = 1
_PREFIX: Final = MqttSettings().topic_prefix

Availability = Literal["online", "offline"]
CameraStatus = Literal["online", "stalled", "offline"]
Kind = Literal["availability", "info", "camera", "state", "event", "stats", "enabled/state", "enabled/set"]
RETAINED: Final[tuple[Kind, ...]] = ("availability", "info", "camera", "state", "enabled/state", "enabled/set")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A face appeared, its emotion changed, or it left.

    Attributes:
        schema: version of this structure.
        event_type: which of the three.
        id: of the track within the session, never an identity.
        time: seconds since 1970 for a live source, since its beginning for a video.
        emotion: how the face looks; for ``end``, how it looked last.
        score: smoothed score of that emotion, 0..1.
        scores: smoothed score of every emotion.
        previous: emotion before an ``update``.
        box: x, y, width and height over the width and height of the image, 0..1.
        duration_s: how long the face has been in view.
        model: name of the model and the first digits of its SHA-256.
    """

    schema: int = SCHEMA
    event_type: Literal["new", "update", "end"]
    id: str
    time: float
    emotion: str
    score: float
    scores: dict[str, float]
    previous: str | None
    box: tuple[float, float, float, float]
    duration_s: float
    model: str


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody in view.

    Attributes:
        schema: version of this structure.
        time: as in `Event`.
        faces: how many faces.
        emotion: the emotion most of them show, the higher mean score deciding a tie; None without faces.
        scores: mean smoothed score of each emotion; empty without faces.
        counts: how many faces show each emotion; emotions that nobody shows are left out.
    """

    schema: int = SCHEMA
    time: float
    faces: int
    emotion: str | None
    scores: dict[str, float]
    counts: dict[str, int]


class Percentiles(msgspec.Struct, frozen=True):
    """Milliseconds that a stage of a frame took."""

    p50: float
    p95: float


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """How the runner is doing, over the time since the last such message.

    Attributes:
        schema: version of this structure.
        time: as in `Event`.
        fps: frames completed a second of real time.
        stages: milliseconds for each stage of a frame.
        dropped: frames of a live source since the start that were not looked at, for newer ones came.
        temp_c: temperature of the processor; None where the system does not tell.
        throttled: the Pi firmware's flags of low voltage and throttling; None elsewhere.
        rss_mb: resident memory of the process, in megabytes.
        queued: events that wait for a broker.
        dropped_events: events that never arrived, because they grew too many or too old, the broker refused them or the
            disk was full; counted for as long as the outbox exists.
    """

    schema: int = SCHEMA
    time: float
    fps: float
    stages: dict[str, Percentiles]
    dropped: int
    temp_c: float | None
    throttled: int | None
    rss_mb: float
    queued: int
    dropped_events: int = 0


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What is running: versions, and the model with its labels."""

    schema: int = SCHEMA
    version: str
    model: str
    model_sha256: str
    labels: tuple[str, ...]


class Message(msgspec.Struct, frozen=True):
    """One MQTT message.

    Attributes:
        topic: where to publish it.
        payload: a structure, published as JSON, or plain text.
        qos: MQTT's quality of service.
        retain: whether the broker keeps it for those who subscribe later.
    """

    topic: str
    payload: Event | State | Stats | Info | str
    qos: Literal[0, 1]
    retain: bool

    def body(self) -> bytes:
        """The payload as a broker gets it."""
        return self.payload.encode() if isinstance(self.payload, str) else msgspec.json.encode(self.payload)


class MessageFactory:
    """Wraps payloads into the messages of one node.

    Attributes:
        node: its name.
        identity: what nobody else at the broker is called, in letters that Home Assistant takes; with its dots.
    """

    def __init__(self, node: str, prefix: str = _PREFIX) -> None:
        """Messages under ``<prefix>/<node>/``.

        Raises:
            InputError: the name has a character that does not belong in a topic.
        """
        if not re.fullmatch(NODE_NAME, node):
            raise InputError(
                f"{node!r} cannot be a node's name (--node, or the key node): use up to 64 letters, digits, '_', '.'"
                " and '-'"
            )
        self.node = node
        # Each sign by its number, so that no two sites have one name.
        site = "" if prefix == _PREFIX else re.sub(r"[^A-Za-z0-9]", lambda sign: f"_{ord(sign[0]):x}", prefix) + "-"
        self.identity = f"fer-edge-{site}{node}"
        self._prefix = f"{prefix}/{node}"

    def topic(self, kind: Kind) -> str:
        """The whole topic of one kind of message."""
        return f"{self._prefix}/{kind}"

    def availability(self, status: Availability) -> Message:
        """Whether the runner is there."""
        return Message(self.topic("availability"), status, 1, retain=True)

    def camera(self, status: CameraStatus) -> Message:
        """Whether frames come."""
        return Message(self.topic("camera"), status, 1, retain=True)

    def info(self, info: Info) -> Message:
        """What is running."""
        return Message(self.topic("info"), info, 1, retain=True)

    def state(self, state: State) -> Message:
        """Everybody in view."""
        return Message(self.topic("state"), state, 1, retain=True)

    def enabled(self, enabled: bool) -> Message:  # noqa: FBT001 - the payload
        """Whether faces are looked at: the privacy switch, in the words that a switch of Home Assistant expects."""
        return Message(self.topic("enabled/state"), "ON" if enabled else "OFF", 1, retain=True)

    def event(self, event: Event) -> Message:
        """Something happened to one face."""
        return Message(self.topic("event"), event, 1, retain=False)

    def stats(self, stats: Stats) -> Message:
        """How the runner is doing."""
        return Message(self.topic("stats"), stats, 0, retain=False)

    def removals(self) -> list[Message]:
        """What takes every retained message of the node from a broker: empty ones."""
        return [Message(self.topic(kind), "", 1, retain=True) for kind in RETAINED]
