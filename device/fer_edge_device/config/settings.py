"""The keys of the runner's configuration.

Each key has its default, its bounds and its description here and nowhere else.
"""

from __future__ import annotations

import re
import socket
from typing import Annotated, Final, Literal

from msgspec import Meta

from fer_edge.utils.toml import Section

PATHS: Final = (  # keys whose values are paths, or may be
    *("model", "camera.source", "camera.ca_file", "faces.detector_model", "outbox.path", "history.path"),
    *("mqtt.password_file", "mqtt.ca_file", "mqtt.cert_file", "mqtt.key_file"),
    *("web.token_file", "web.cert_file", "web.key_file", "collect.path"),
)
RESTART_SECTIONS: Final = ("camera", "history", "web", "log")  # whose changes take effect after a restart
RELOADED_KEYS: Final = ("camera.fps", "camera.idle_fps")  # of these sections, on SIGHUP as all others do
NODE_NAME: Final = r"^(?=.*[A-Za-z0-9])[A-Za-z0-9_.-]{1,64}$"
# Brokers keep topics that begin with a dollar sign for themselves.
_TOPIC_PART: Final = r"(?=[^/]*\w)[^+#/\x00-\x1f\x7f]+"
TOPIC_PREFIX: Final = rf"^(?!\$){_TOPIC_PART}(/{_TOPIC_PART})*\Z"
_TOPIC_FORM: Final = {
    "form": "be a topic such as fer-edge or home/cameras, each part with a letter or digit, without +, # and control"
    " characters, and without $ at its start"
}

Margin = Annotated[
    float, Meta(ge=0, le=1, description="how far the score of another emotion must lead before it is reported")
]
HoldTime = Annotated[float, Meta(ge=0, le=60, description="seconds for which it must lead")]


def _sqlite_path(name: str) -> Meta:
    """Return the bounds of a path of a database, and their description.

    A damaged database is renamed. The suffix makes sure that this never happens to another file.

    Args:
        name: its name in the service's state folder.
    """
    return Meta(
        pattern=r"^(.*[^/]\.sqlite)?\Z",
        extra={"form": f"be a path that ends in .sqlite, such as /var/lib/fer-edge/{name}, or empty"},
        description=f"its file, which must end in .sqlite; empty: {name} in the service's state folder, or a file in"
        " ~/.local/state/fer-edge",
    )


def _check_name(key: str, name: str) -> None:
    if name != name.strip() or not name.isprintable():
        message = f"{key} must be one line of text without control characters, and without spaces at its ends"
        raise ValueError(message)


class CameraSettings(Section, frozen=True, kw_only=True):
    """Where frames come from."""

    source: Annotated[
        str,
        Meta(
            description="auto, picamera2 (or picamera2:1 for the second camera module), demo, the number or path of a"
            " camera, rtsp://..., http://..., a video or a folder"
        ),
    ] = "auto"
    verify_certificate: Annotated[
        bool,
        Meta(
            description="verify the certificate of an https camera; false: whoever is in between can read the password"
            " and show other images"
        ),
    ] = True
    ca_file: Annotated[
        str,
        Meta(
            description="certificates to trust, for https, such as the one that a camera made for itself; empty: the"
            " system's certificates"
        ),
    ] = ""
    width: Annotated[int, Meta(ge=64, le=8192, description="requested frame width of a live camera, in pixels")] = 640
    height: Annotated[int, Meta(ge=64, le=8192, description="requested frame height, in pixels")] = 480
    fps: Annotated[
        float, Meta(ge=0.1, le=120, description="frames per second processed from a live source, if it gives as many")
    ] = 10.0
    idle_fps: Annotated[float, Meta(ge=0.1, le=120, description="the same while no face is in view")] = 2.0
    autofocus: Annotated[
        Literal["continuous", "once", "off"],
        Meta(description="autofocus of a camera module that has it; once means at the start"),
    ] = "continuous"
    lens_position: Annotated[
        float, Meta(ge=0, le=32, description="focus with autofocus off, as 1 / distance in metres; 0 is infinity")
    ] = 0.0
    exposure_time_us: Annotated[
        int, Meta(ge=0, le=10_000_000, description="exposure time of a camera module in microseconds; 0 is automatic")
    ] = 0
    gain: Annotated[float, Meta(ge=0, le=64, description="analogue gain of a camera module; 0 is automatic")] = 0.0
    stall_timeout_s: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="seconds without a frame before a live source is reopened; must exceed the time between a"
            " stream's key frames",
        ),
    ] = 5.0
    exit_after_s: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="seconds without a frame before the process exits, so that systemd restarts it; must be less"
            " than the unit's WatchdogSec",
        ),
    ] = 25.0

    def __post_init__(self) -> None:
        """Check the keys against each other."""
        if not self.exposure_time_us / 1e6 < self.stall_timeout_s < self.exit_after_s:
            message = (
                "camera.stall_timeout_s must be longer than camera.exposure_time_us and shorter than"
                " camera.exit_after_s"
            )
            raise ValueError(message)


class FacesSettings(Section, frozen=True, kw_only=True):
    """How faces are detected and classified."""

    detector: Annotated[Literal["network", "yunet"], Meta(description="the face detector")] = "network"
    detector_model: Annotated[
        str,
        Meta(description="the detector's file: a .tflite, or YuNet's ONNX file; empty: the network that is shipped"),
    ] = ""
    min_face: Annotated[
        int,
        Meta(
            ge=0,
            le=4096,
            description="side of the smallest face to detect in pixels, 12 or more; 0: 1/16 of the frame's longer side",
        ),
    ] = 0
    min_score: Annotated[
        float,
        Meta(
            ge=0,
            le=0.99,
            description="lowest score of a face; with the shipped detector, the expected share of boxes with this score"
            " that are faces; 0: the detector's own",
        ),
    ] = 0.0
    detect_interval_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="seconds between detections in the whole frame while known faces are tracked; 0: every frame",
        ),
    ] = 0.5
    classify_interval_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="seconds between classifications of a face, doubled while its emotion stays the same; 0: every"
            " frame",
        ),
    ] = 0.2

    def __post_init__(self) -> None:
        """Check what the bounds cannot express."""
        if 0 < self.min_face < 12:
            message = "faces.min_face must be at least 12, or 0"
            raise ValueError(message)


class EventsSettings(Section, frozen=True, kw_only=True):
    """When a message is published."""

    min_hits: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="detections of a face before it is reported; more of them keep out false positives",
        ),
    ] = 3
    max_age_s: Annotated[
        float, Meta(gt=0, le=3600, description="seconds without a detection before a face counts as gone")
    ] = 1.0
    smoothing_s: Annotated[
        float, Meta(gt=0, le=60, description="time constant in seconds by which scores are smoothed")
    ] = 0.4
    margin: Margin = 0.1
    hold_s: HoldTime = 0.3
    heartbeat_interval_s: Annotated[
        float, Meta(gt=0, le=86_400, description="seconds before an unchanged state is published again")
    ] = 60.0
    stats_interval_s: Annotated[float, Meta(gt=0, le=86_400, description="seconds between stats messages")] = 10.0


class MqttSettings(Section, frozen=True, kw_only=True):
    """The MQTT broker; without one, messages go to standard output."""

    url: Annotated[
        str, Meta(description="mqtt://[user@]host[:port] or mqtts://...; empty: messages go to standard output")
    ] = ""
    password_file: Annotated[
        str,
        Meta(description="file with the password; empty: the systemd credential mqtt-password, if it is set"),
    ] = ""
    ca_file: Annotated[
        str, Meta(description="CA certificates to trust, for mqtts; empty: the system's certificates")
    ] = ""
    cert_file: Annotated[str, Meta(description="client certificate, for mqtts")] = ""
    key_file: Annotated[str, Meta(description="private key of the client certificate")] = ""
    keepalive_s: Annotated[
        int, Meta(ge=5, le=3600, description="seconds of silence before the connection is checked")
    ] = 30
    version: Annotated[
        Literal["auto", "5", "3.1.1"],
        Meta(description="version of MQTT; auto: 5, or 3.1.1 if the broker does not support it"),
    ] = "auto"
    event_max_age_s: Annotated[
        float,
        Meta(
            ge=1,
            le=31_536_000,
            description="seconds before a waiting event is sent to event/backlog instead of event, where it would"
            " start automations",
        ),
    ] = 60.0
    topic_prefix: Annotated[
        str, Meta(pattern=TOPIC_PREFIX, max_length=128, extra=_TOPIC_FORM, description="first part of every topic")
    ] = "fer-edge"
    ha_discovery: Annotated[bool, Meta(description="announce the device to Home Assistant")] = False
    ha_discovery_prefix: Annotated[
        str,
        Meta(pattern=TOPIC_PREFIX, max_length=128, extra=_TOPIC_FORM, description="Home Assistant's discovery prefix"),
    ] = "homeassistant"
    ha_suggested_area: Annotated[
        str,
        Meta(
            max_length=128,
            description="the area that Home Assistant suggests when it adds the device, such as Küche; empty: none",
        ),
    ] = ""

    def __post_init__(self) -> None:
        """Check what the bounds cannot express."""
        _check_name("mqtt.ha_suggested_area", self.ha_suggested_area)


class OutboxSettings(Section, frozen=True, kw_only=True):
    """The queue on disk in which events wait until the broker has acknowledged them."""

    path: Annotated[str, _sqlite_path("outbox.sqlite")] = ""
    max_events: Annotated[
        int, Meta(ge=1, le=10_000_000, description="maximum number of events; the oldest are dropped first")
    ] = 100_000
    max_age_h: Annotated[float, Meta(gt=0, le=8760, description="hours before a waiting event is dropped")] = 168.0
    max_rate: Annotated[float, Meta(gt=0, le=10_000, description="maximum events sent per second")] = 100.0


class HistorySettings(Section, frozen=True, kw_only=True):
    """What is kept on disk of the faces in view: states by the minute, and events; no images."""

    enabled: Annotated[bool, Meta(description="keep a history")] = False
    path: Annotated[str, _sqlite_path("history.sqlite")] = ""
    max_days: Annotated[float, Meta(gt=0, le=3650, description="days before a minute or an event is deleted")] = 90.0
    max_mb: Annotated[
        float, Meta(ge=1, le=10_000, description="maximum size in megabytes; the oldest is deleted first")
    ] = 50.0


class WebSettings(Section, frozen=True, kw_only=True):
    """The page that shows what the node sees, and its API."""

    listen: Annotated[
        str,
        Meta(
            max_length=260,
            description="where the page is served: a port, for this machine alone, or HOST:PORT, such as 0.0.0.0:8080;"
            " empty: no page",
        ),
    ] = ""
    picture: Annotated[
        Literal["off", "silhouette", "pixelated", "full"],
        Meta(
            description="what the page shows of the room: nothing, faces as silhouettes, a coarse picture in which"
            " faces cannot be recognized, or everything"
        ),
    ] = "pixelated"
    hosts: Annotated[
        str,
        Meta(
            max_length=1000,
            description="further names by which browsers call this machine, with commas between them, such as the"
            " name of a reverse proxy; then the token is needed on this machine, too",
        ),
    ] = ""
    trusted_proxy: Annotated[
        str,
        Meta(
            max_length=45,
            pattern=r"^[0-9a-fA-F.:]*\Z",
            extra={"form": "be an IP address, such as 172.30.32.2"},
            description="address of a proxy that lets in only whom it knows, such as 172.30.32.2, Home Assistant's"
            " ingress; what comes from there needs no token; empty: none",
        ),
    ] = ""
    token_file: Annotated[
        str,
        Meta(
            description="file with the token, or with sha256: and its hash; empty: the systemd credential web-token, or"
            " a file that is made at the first start; `fer-edge web token` shows it"
        ),
    ] = ""
    frame_ancestors: Annotated[
        str,
        Meta(
            max_length=1000,
            pattern=r"^(https?://[A-Za-z0-9.:*\[\]-]+( +|\Z))*\Z",
            extra={"form": "be addresses such as https://home.example.org, without a path, with spaces between them"},
            description="addresses of other pages that may show this one in a frame, with spaces between them, such as"
            " https://home.example.org; empty: none",
        ),
    ] = ""
    cert_file: Annotated[str, Meta(description="certificate for https, with its chain; empty: http")] = ""
    key_file: Annotated[str, Meta(description="private key of the certificate; empty: it is in cert_file")] = ""


class CollectSettings(Section, frozen=True, kw_only=True):
    """Crops of faces that are kept for a person's review, encrypted; never whole frames."""

    enabled: Annotated[bool, Meta(description="keep crops of uncertain, contradictory and rare faces")] = False
    public_key: Annotated[
        str,
        Meta(
            pattern=r"^(age1[02-9ac-hj-np-z]{58})?\Z",
            extra={"form": "be a public key of age, as `fer-edge collect key` prints it: age1 and 58 characters"},
            description="the key for which crops are encrypted; its private key stays on your computer",
        ),
    ] = ""
    path: Annotated[
        str,
        Meta(
            description="their folder; empty: collected in the service's state folder, or a folder in"
            " ~/.local/state/fer-edge"
        ),
    ] = ""
    margin: Annotated[
        float, Meta(ge=0, le=1, description="a face is uncertain if its best score leads the second by less")
    ] = 0.2
    interval_s: Annotated[float, Meta(ge=0, le=86_400, description="seconds between two crops of the same face")] = 10.0
    max_per_hour: Annotated[int, Meta(ge=1, le=3600, description="maximum number of crops in any hour")] = 20
    max_faces: Annotated[
        int, Meta(ge=1, le=100_000, description="maximum number of crops that are kept; then no more are added")
    ] = 1000
    max_days: Annotated[float, Meta(gt=0, le=365, description="days before a crop is deleted")] = 30.0

    def __post_init__(self) -> None:
        """Check the keys against each other."""
        if self.enabled and not self.public_key:
            message = "collect.enabled needs collect.public_key; `fer-edge collect key` makes one on your computer"
            raise ValueError(message)


class LogSettings(Section, frozen=True, kw_only=True):
    """What is written to standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least serious level that is logged")
    ] = "info"
    format: Annotated[
        Literal["auto", "plain", "json", "journal"],
        Meta(description="auto: with priorities under systemd's journal, otherwise plain"),
    ] = "auto"
    messages: Annotated[
        bool, Meta(description="also print messages on standard output when a broker is configured")
    ] = True


class Config(Section, frozen=True, kw_only=True):
    """The whole configuration."""

    node: Annotated[
        str, Meta(description="the node's name in topics: letters, digits, '_', '.', '-'; empty: the host name")
    ] = ""
    display_name: Annotated[
        str,
        Meta(
            max_length=128,
            description="the name that Home Assistant shows, such as Kamera Küche; empty: fer-edge and the node's name",
        ),
    ] = ""
    model: Annotated[
        str, Meta(description="a .tflite file with a model card, or one of the shipped models: edge, edge-plus, large")
    ] = "edge"
    threads: Annotated[int, Meta(ge=1, le=64, description="threads of the classifier")] = 1
    camera: CameraSettings = CameraSettings()
    faces: FacesSettings = FacesSettings()
    events: EventsSettings = EventsSettings()
    mqtt: MqttSettings = MqttSettings()
    outbox: OutboxSettings = OutboxSettings()
    history: HistorySettings = HistorySettings()
    web: WebSettings = WebSettings()
    collect: CollectSettings = CollectSettings()
    log: LogSettings = LogSettings()

    def __post_init__(self) -> None:
        """Check what the bounds cannot express."""
        _check_name("display_name", self.display_name)

    def node_name(self) -> str:
        """Return the node's name in topics."""
        return self.node or re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64]
