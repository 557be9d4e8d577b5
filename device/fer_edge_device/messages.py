"""The messages that a runner publishes, and their topics.

Each line of standard output is one message in JSON, ready to publish: see `Message`.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec

from fer_edge.errors import InputError
from fer_edge.quality import Degrees, FaceQuality
from fer_edge_device.config.settings import NODE_NAME, EventsSettings, MqttSettings
from fer_edge_device.live_settings import LiveSettings

SCHEMA: Final = 1
_PREFIX: Final = MqttSettings().topic_prefix

# What the manual says of a field beside its meaning. Reading a message does not check it.
Seconds = Annotated[float, msgspec.Meta(extra={"unit": "s"})]
Milliseconds = Annotated[float, msgspec.Meta(extra={"unit": "ms"})]
Celsius = Annotated[float, msgspec.Meta(extra={"unit": "°C"})]
Megabytes = Annotated[float, msgspec.Meta(extra={"unit": "MB"})]
PerSecond = Annotated[float, msgspec.Meta(extra={"unit": "1/s"})]
Fraction = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
Count = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0})]
BoxFractions = tuple[Fraction, Fraction, Fraction, Fraction]

Availability = Literal["online", "offline"]
CameraStatus = Literal["online", "stalled", "offline", "disabled"]
Kind = Literal[
    "availability",
    "info",
    "camera",
    "state",
    "event",
    "event/backlog",
    "stats",
    "enabled/state",
    "enabled/set",
    "settings/state",
    "settings/set",
    "restart/set",
]
RETAINED: Final[tuple[Kind, ...]] = (
    "availability",
    "info",
    "camera",
    "state",
    "stats",
    "enabled/state",
    "enabled/set",
    "settings/state",
    "settings/set",
    "restart/set",
)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A face appeared, its emotion changed, or it left.

    Attributes:
        schema: version of this structure.
        event_type: ``new``, ``update`` or ``end``.
        id: identifies the track within the session; never a person.
        time: for a live source, seconds since 1970; for a video, seconds since its start.
        emotion: emotion of the face; for ``end``, the last one reported.
        score: smoothed score of that emotion, 0..1.
        scores: smoothed score of each emotion, 0..1.
        reliable: whether the face has been large, sharp and frontal enough to tell its emotion; a change of this is an
            ``update``, too.
        quality: how well the face could be seen when it was classified last; None in an event of an earlier version.
        previous: for an ``update``, the emotion before, which is the same if only ``reliable`` has changed; otherwise
            None.
        box: x, y, width and height, as fractions of the image's width and height, 0..1.
        duration_s: seconds for which the face has been in view.
        model: name of the model and the first digits of its SHA-256.
    """

    schema: int = SCHEMA
    event_type: Literal["new", "update", "end"]
    id: str
    time: Seconds
    emotion: str
    score: Fraction
    scores: dict[str, Fraction]
    reliable: bool = True
    quality: FaceQuality | None = None
    previous: str | None
    box: BoxFractions
    duration_s: Seconds
    model: str


class VisibleFace(msgspec.Struct, frozen=True, kw_only=True):
    """A face in the current frame, for the live page; it is not a message of its own.

    Attributes:
        id: as in `Event`.
        box: as in `Event`.
        emotion: the reported emotion; None before the face's first event.
        reliable: as in `Event`.
        scores: smoothed score of each emotion, 0..1.
        duration_s: seconds for which the face has been in view.
        roll: clockwise rotation of the line through the eyes, in degrees; None if the eyes are not known.
    """

    id: str
    box: BoxFractions
    emotion: str | None
    reliable: bool = True
    scores: dict[str, Fraction]
    duration_s: Seconds
    roll: Degrees | None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All faces in view.

    Attributes:
        schema: version of this structure.
        time: as in `Event`.
        faces: number of faces.
        unclear: number of faces of which the emotion is not reliable; the fields below leave them out.
        emotion: emotion of most faces; in a tie, the one with the highest mean score; None without faces.
        scores: mean smoothed score of each emotion, 0..1; empty without faces.
        counts: number of faces with each emotion, for the emotions that occur.
    """

    schema: int = SCHEMA
    time: Seconds
    faces: Count
    unclear: Count = 0
    emotion: str | None
    scores: dict[str, Fraction]
    counts: dict[str, Count]


class Percentiles(msgspec.Struct, frozen=True):
    """The time that a stage took.

    Attributes:
        p50: median.
        p95: 95th percentile.
    """

    p50: Milliseconds
    p95: Milliseconds


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Health and speed of the runner since the last message of this kind.

    Attributes:
        schema: version of this structure.
        time: as in `Event`.
        fps: frames processed per second of real time.
        stages: time of each stage of a frame that took place: ``follow``, ``detect``, ``classify`` and ``track``.
        skipped: frames of a live source that were left out since the start, because ``camera.fps`` and
            ``camera.idle_fps`` ask for fewer than it gives. While the runner is switched off, no frame is counted.
        dropped: frames of a live source that should have been processed since the start, but came while another one
            was: this machine is too slow for ``camera.fps``.
        temp_c: temperature of the processor in degrees Celsius; None if the system does not report it.
        throttled: flags of the Raspberry Pi firmware for low voltage and throttling; None on other machines.
        rss_mb: resident memory of the process, in megabytes; None if the system does not say.
        queued: number of events that wait for the broker.
        dropped_events: number of events that were dropped since the outbox was created: they were too many or too old,
            the broker refused them, or the disk was full.
    """

    schema: int = SCHEMA
    time: Seconds
    fps: PerSecond
    stages: dict[str, Percentiles]
    skipped: Count
    dropped: Count
    temp_c: Celsius | None
    throttled: int | None
    rss_mb: Megabytes | None
    queued: Count
    dropped_events: Count = 0


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """The version of fer-edge and the model that is in use.

    Attributes:
        schema: version of this structure.
        version: version of fer-edge.
        model: name of the model.
        model_sha256: SHA-256 of its file.
        labels: its emotions, in the order of its outputs.
        collects_faces: whether encrypted crops of some faces are kept for a person's review.
    """

    schema: int = SCHEMA
    version: str
    model: str
    model_sha256: str
    labels: tuple[str, ...]
    collects_faces: bool = False

    @property
    def model_id(self) -> str:
        """See `model_id`."""
        return model_id(self.model, self.model_sha256)


def model_id(name: str, sha256: str) -> str:
    """Return the name of a model and the first digits of its hash, which tell it from others of that name."""
    return f"{name}-{sha256[:8]}"


class Message(msgspec.Struct, frozen=True):
    """One MQTT message.

    Attributes:
        topic: the whole topic.
        payload: a structure, published as JSON, or plain text.
        qos: MQTT quality of service.
        retain: whether the broker keeps the message for later subscribers.
    """

    topic: str
    payload: Event | State | Stats | Info | LiveSettings | str
    qos: Literal[0, 1]
    retain: bool

    def is_of(self, kind: Kind) -> bool:
        """Return whether the message is of a kind, of whichever node."""
        return self.topic.endswith(f"/{kind}")

    def body(self) -> bytes:
        """Return the payload as it is published."""
        return self.payload.encode() if isinstance(self.payload, str) else msgspec.json.encode(self.payload)


class MessageFactory:
    """Makes the messages of one node: each kind has its topic, quality of service and retain flag.

    Attributes:
        node: the node's name.
        identity: a name that no other node at the broker has, in characters that Home Assistant accepts, except for
            dots.
    """

    def __init__(self, node: str, prefix: str = _PREFIX) -> None:
        """Make messages with topics under ``<prefix>/<node>/``.

        Args:
            node: the node's name.
            prefix: first part of every topic.

        Raises:
            InputError: the name is empty, too long or has a character that is not allowed in a topic.
        """
        if not re.fullmatch(NODE_NAME, node):
            raise InputError(
                f"{node!r} is not a valid node name (--node, or the key node): use 1 to 64 letters, digits, '_', '.'"
                " and '-', a letter or digit among them"
            )
        self.node = node
        # Two pairs of prefix and node never give the same name: other characters of the prefix become their code point
        # between underscores, so that it ends at the first hyphen.
        site = "" if prefix == _PREFIX else "_" + re.sub(r"[^A-Za-z0-9]", lambda char: f"_{ord(char[0]):x}_", prefix)
        self.identity = f"fer-edge{site}-{node}"
        self._prefix = f"{prefix}/{node}"

    def topic(self, kind: Kind) -> str:
        """Return the whole topic of a kind of message."""
        return f"{self._prefix}/{kind}"

    def availability(self, status: Availability) -> Message:
        """Make the message that says whether the runner is online."""
        return Message(self.topic("availability"), status, 1, retain=True)

    def camera(self, status: CameraStatus) -> Message:
        """Make the message that says whether the camera gives frames."""
        return Message(self.topic("camera"), status, 1, retain=True)

    def info(self, info: Info) -> Message:
        """Make the message that says what is running."""
        return Message(self.topic("info"), info, 1, retain=True)

    def state(self, state: State) -> Message:
        """Make the message of a state."""
        return Message(self.topic("state"), state, 1, retain=True)

    def enabled(self, enabled: bool) -> Message:  # noqa: FBT001 - the payload
        """Make the message of the privacy switch, in the words that a switch of Home Assistant expects."""
        return Message(self.topic("enabled/state"), "ON" if enabled else "OFF", 1, retain=True)

    def settings(self, settings: EventsSettings) -> Message:
        """Make the message of the settings that may be changed over MQTT."""
        live = LiveSettings(margin=settings.margin, hold_s=settings.hold_s)
        return Message(self.topic("settings/state"), live, 1, retain=True)

    def event(self, event: Event) -> Message:
        """Make the message of an event."""
        return Message(self.topic("event"), event, 1, retain=False)

    def stats(self, stats: Stats) -> Message:
        """Make the message of the stats."""
        return Message(self.topic("stats"), stats, 0, retain=True)

    def removals(self) -> list[Message]:
        """Return the empty messages that remove all retained messages of the node from the broker."""
        return [Message(self.topic(kind), "", 1, retain=True) for kind in RETAINED]
