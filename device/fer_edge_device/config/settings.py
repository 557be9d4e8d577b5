"""The runner's configuration: a TOML file, then ``FER_EDGE_*`` variables, then options, one typed model.

Every key has its default, its bounds and its description in the structures below, and nowhere else.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from fer_edge.errors import InputError, without_passwords
from fer_edge.utils.toml import Section, convert, parse, toml_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from msgspec.structs import FieldInfo

SYSTEM_CONFIG: Final = Path("/etc/fer-edge/config.toml")
_PREFIX: Final = "FER_EDGE_"
_OTHERS: Final = frozenset({"FER_EDGE_NATIVE_LOG", "FER_EDGE_FER2013"})  # of the program and of its tests

PATHS: Final = (  # keys whose values are, or may be, paths
    *("model", "camera.source", "faces.detector_model", "outbox.path"),
    *("mqtt.password_file", "mqtt.ca_file", "mqtt.cert_file", "mqtt.key_file"),
)
NODE_NAME: Final = r"^[A-Za-z0-9_.-]{1,64}$"
TOPIC_PREFIX: Final = r"^[^+#/\x00]+(/[^+#/\x00]+)*$"


class CameraSettings(Section, frozen=True, kw_only=True):
    """Where frames come from."""

    source: Annotated[
        str,
        Meta(
            description="auto, picamera2 (of several: picamera2:1), demo, a camera's number or path, rtsp://...,"
            " http://..., a video or a folder"
        ),
    ] = "auto"
    width: Annotated[int, Meta(ge=64, le=8192, description="wanted columns of a live camera's frames")] = 640
    height: Annotated[int, Meta(ge=64, le=8192, description="wanted rows")] = 480
    fps: Annotated[
        float, Meta(ge=0.1, le=120, description="most frames a second that are looked at, of a live source")
    ] = 10.0
    idle_fps: Annotated[float, Meta(ge=0.1, le=120, description="the same while there is no face in view")] = 2.0
    autofocus: Annotated[
        Literal["continuous", "once", "off"],
        Meta(description="of a camera module that has it: continuous, once at the start, or off"),
    ] = "continuous"
    lens_position: Annotated[
        float, Meta(ge=0, le=32, description="with autofocus off: 1 / metres to what is sharp; 0 is far away")
    ] = 0.0
    exposure_us: Annotated[
        int, Meta(ge=0, le=10_000_000, description="exposure in microseconds, of a camera module; 0 is automatic")
    ] = 0
    gain: Annotated[float, Meta(ge=0, le=64, description="analogue gain, of a camera module; 0 is automatic")] = 0.0
    stall_s: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="seconds without a frame after which a live source is opened again; more than lie between a"
            " stream's key frames",
        ),
    ] = 5.0
    give_up_s: Annotated[
        float,
        Meta(
            gt=0,
            le=86_400,
            description="seconds without a frame after which the process ends, to be started clean; fewer than the"
            " unit's WatchdogSec",
        ),
    ] = 25.0

    def __post_init__(self) -> None:
        """Check what a bound alone does not tell."""
        if not self.exposure_us / 1e6 < self.stall_s < self.give_up_s:
            message = "camera.stall_s must be more than an exposure takes, and less than camera.give_up_s"
            raise ValueError(message)


class FacesSettings(Section, frozen=True, kw_only=True):
    """How faces are found, followed and scored."""

    detector: Annotated[Literal["network", "yunet"], Meta(description="what finds faces")] = "network"
    detector_model: Annotated[
        str,
        Meta(description="the file of the detector: a network's .tflite, or YuNet's ONNX; empty: the shipped network"),
    ] = ""
    min_face: Annotated[
        int,
        Meta(
            ge=0, le=4096, description="side of the smallest face in pixels, 12 at least; 0 is 1/16 of the longer side"
        ),
    ] = 0
    detect_every_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="seconds between detections while known faces are followed; 0: detect in each frame",
        ),
    ] = 0.5
    classify_every_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="seconds between two looks at one face's expression, twice as many while it stays the same; 0:"
            " look in each frame",
        ),
    ] = 0.2

    def __post_init__(self) -> None:
        """Check what a bound alone does not tell."""
        if 0 < self.min_face < 12:
            message = "faces.min_face must be 12 at least, or 0"
            raise ValueError(message)


class EventsSettings(Section, frozen=True, kw_only=True):
    """When something is worth a message."""

    min_sightings: Annotated[
        int,
        Meta(
            ge=1, le=1000, description="times the detector finds a face before it is reported: keeps false alarms out"
        ),
    ] = 3
    lost_after_s: Annotated[
        float, Meta(gt=0, le=3600, description="seconds without a sighting after which a face has left")
    ] = 1.0
    smoothing_s: Annotated[
        float, Meta(gt=0, le=60, description="time constant in seconds of the smoothing of scores")
    ] = 0.4
    margin: Annotated[
        float, Meta(ge=0, le=1, description="by how much another emotion's score must lead to be reported")
    ] = 0.1
    hold_s: Annotated[float, Meta(ge=0, le=60, description="for how many seconds it must lead")] = 0.3
    heartbeat_s: Annotated[
        float, Meta(gt=0, le=86_400, description="seconds after which the state is told again though nothing changed")
    ] = 60.0
    stats_every_s: Annotated[float, Meta(gt=0, le=86_400, description="seconds between two stats messages")] = 10.0


class MqttSettings(Section, frozen=True, kw_only=True):
    """The broker; without one, messages are lines of standard output."""

    url: Annotated[
        str, Meta(description="mqtt://[user@]host[:port] or mqtts://...; empty: messages go to standard output")
    ] = ""
    password_file: Annotated[
        str,
        Meta(description="file with the password; else the systemd credential mqtt-password, where there is one"),
    ] = ""
    ca_file: Annotated[str, Meta(description="certificates to trust instead of the system's, for mqtts")] = ""
    cert_file: Annotated[str, Meta(description="a client certificate, for mqtts")] = ""
    key_file: Annotated[str, Meta(description="its key")] = ""
    keepalive_s: Annotated[
        int, Meta(ge=5, le=3600, description="seconds after which a silent connection is checked")
    ] = 30
    prefix: Annotated[str, Meta(pattern=TOPIC_PREFIX, max_length=128, description="what every topic begins with")] = (
        "fer-edge"
    )
    ha_discovery: Annotated[bool, Meta(description="announce the device to Home Assistant")] = False
    ha_prefix: Annotated[
        str, Meta(pattern=TOPIC_PREFIX, max_length=128, description="Home Assistant's discovery prefix")
    ] = "homeassistant"


class OutboxSettings(Section, frozen=True, kw_only=True):
    """Events that wait on disk until the broker has acknowledged them."""

    path: Annotated[
        str,
        # Nothing else may be taken for an outbox that is damaged, and set aside.
        Meta(
            pattern=r"^(.*[^/]\.sqlite)?$",
            description="its file, which ends in .sqlite; empty: outbox.sqlite in the service's state folder, or"
            " ~/.local/state/fer-edge",
        ),
    ] = ""
    max_events: Annotated[int, Meta(ge=1, le=10_000_000, description="most events kept; the oldest go first")] = 100_000
    max_age_h: Annotated[float, Meta(gt=0, le=8760, description="most hours an event is kept")] = 168.0
    rate: Annotated[float, Meta(gt=0, le=10_000, description="most events a second that are sent")] = 100.0


class LogSettings(Section, frozen=True, kw_only=True):
    """What is said on standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least serious line")] = "info"
    format: Annotated[
        Literal["auto", "plain", "json", "journal"],
        Meta(description="auto: with priorities under systemd's journal, else plain"),
    ] = "auto"
    messages: Annotated[bool, Meta(description="print messages on standard output also when there is a broker")] = True


class Config(Section, frozen=True, kw_only=True):
    """Everything that a runner is told."""

    node: Annotated[
        str, Meta(description="name in the topics: letters, digits, '_', '.', '-'; empty: the host's name")
    ] = ""
    model: Annotated[str, Meta(description="a .tflite with a card, or edge or edge-plus, which are shipped")] = "edge"
    threads: Annotated[int, Meta(ge=1, le=64, description="threads of the classifier")] = 1
    camera: CameraSettings = CameraSettings()
    faces: FacesSettings = FacesSettings()
    events: EventsSettings = EventsSettings()
    mqtt: MqttSettings = MqttSettings()
    outbox: OutboxSettings = OutboxSettings()
    log: LogSettings = LogSettings()

    def node_name(self) -> str:
        """The name in the topics."""
        return self.node or re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:64]


def load_config(
    path: Path | None = None, environment: Mapping[str, str] = os.environ, options: Mapping[str, object] | None = None
) -> Config:
    """Read the configuration; what comes later wins: the file, ``FER_EDGE_*`` variables, options.

    In paths ``~`` is the user's home.

    Args:
        path: the file; without one, `SYSTEM_CONFIG` if it is there.
        environment: variables such as ``FER_EDGE_CAMERA_STALL_S``: section and key, in capitals.
        options: values by dotted key, such as ``camera.source``; a value of None was not given.

    Raises:
        InputError: the file cannot be read, or something in any of the three is wrong; says what and where.
    """
    tables: dict[str, Any] = {}
    where = "configuration"
    if path is not None or SYSTEM_CONFIG.exists():
        path = path or SYSTEM_CONFIG
        where = str(path)
        try:
            tables = parse(path.read_text(encoding="utf-8"), where)
        except PermissionError as error:
            advice = "run this with sudo, or join the group video"
            raise InputError(f"{path}: the configuration may not be read by you; {advice}") from error
        except OSError as error:
            raise InputError(f"{path}: the configuration cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not a text file in UTF-8") from error
        convert(tables, Config, where)  # so that a mistake in the file is told as the file's
    keys = {key.replace(".", "_").upper(): (key, field) for key, field in _leaves(Config)}
    variables: dict[str, tuple[str, object]] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(_PREFIX) or name in _OTHERS:
            continue
        if name.removeprefix(_PREFIX) not in keys:
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), keys, 1)
            raise InputError(f"{name}: no such key{f'; did you mean {_PREFIX}{near[0]}?' if near else ''}")
        key, field = keys[name.removeprefix(_PREFIX)]
        variables[name] = key, value if _is_text(field) else toml_value(value)
    _lay_over(tables, variables)
    given = {f"option for {key}": (key, value) for key, value in (options or {}).items() if value is not None}
    _lay_over(tables, given)
    for key in PATHS:
        section, _, last = key.rpartition(".")
        table = tables.get(section, {}) if section else tables
        if last in table:
            table[last] = os.path.expanduser(table[last])  # noqa: PTH111 - an address is no path
    return convert(tables, Config, where)


def holds_password(address: str) -> bool:
    """Whether an address tells a password, which on a command line everybody on the machine could read."""
    address = re.sub(r"^([\w+.-]+://[^/?#]*):\d+(?=/)", r"\1", address)  # which is a port
    return without_passwords(address) != address


def example() -> str:
    """A configuration file with every key, its default, its bounds and what it is for, the keys as comments."""
    return "# fer-edge: every key with its default. Take the mark away from a line to change it.\n\n" + _toml(
        Config(), mark="# ", described=True
    )


def as_toml(config: Config) -> str:
    """A configuration as its file would say it, whole."""
    return _toml(config, mark="", described=False)


def _toml(config: Config, *, mark: str, described: bool) -> str:
    def lines(section: Section) -> list[str]:
        return [
            (f"# {_about(field)}\n" if described else "")
            # JSON's strings, numbers and booleans are TOML's, too.
            + f"{mark}{field.name} = {json.dumps(getattr(section, field.name), ensure_ascii=False)}"
            for field in msgspec.structs.fields(type(section))
            if not isinstance(getattr(section, field.name), Section)
        ]

    parts = ["\n".join(lines(config))]
    for field in msgspec.structs.fields(Config):
        section = getattr(config, field.name)
        if isinstance(section, Section):
            about = [f"# {(section.__doc__ or '').splitlines()[0]}"] if described else []
            parts.append("\n".join([*about, f"[{field.name}]", *lines(section)]))
    return "\n\n".join(parts) + "\n"


def _leaves(struct: type[msgspec.Struct], before: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Each key with its dotted name."""
    for field in msgspec.structs.fields(struct):
        section = _section(field.type)
        if section is None:
            yield before + field.name, field
        else:
            yield from _leaves(section, f"{before}{field.name}.")


def _section(of: object) -> type[Section] | None:
    return of if isinstance(of, type) and issubclass(of, Section) else None


def _put(tables: dict[str, Any], key: str, value: object) -> None:
    section, dot, last = key.rpartition(".")
    (tables.setdefault(section, {}) if dot else tables)[last] = value


def _lay_over(tables: dict[str, Any], given: Mapping[str, tuple[str, object]]) -> None:
    """Put keys and values into tables, all of them before any is judged: some are right only together.

    Raises:
        InputError: something is wrong; says by whose name it was given.
    """
    for key, value in given.values():
        _put(tables, key, value)
    try:
        msgspec.convert(tables, Config)
    except msgspec.ValidationError as error:
        at = re.search(r"`\$\.([\w.]+)`", str(error))
        place = f"{at[1]}." if at else ""
        names = [name for name, (key, _) in given.items() if f"{key}.".startswith(place)]
        convert(tables, Config, ", ".join(names))


def _is_text(field: FieldInfo) -> bool:
    return isinstance(field.default, str)


def _about(field: FieldInfo) -> str:
    """What a key is for, and its bounds."""
    kind = msgspec.inspect.type_info(field.type)
    about = ""
    if isinstance(kind, msgspec.inspect.Metadata):
        about, kind = (kind.extra_json_schema or {}).get("description", ""), kind.type
    bounds = ""
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        least = f"{kind.ge:g}" if kind.ge is not None else f"above {kind.gt:g}" if kind.gt is not None else "any"
        most = f"{kind.le:g}" if kind.le is not None else f"below {kind.lt:g}" if kind.lt is not None else "any"
        bounds = f" ({least} to {most})"
    elif isinstance(kind, msgspec.inspect.LiteralType):
        bounds = f" ({', '.join(map(str, kind.values))})"
    return f"{about}{bounds}"
