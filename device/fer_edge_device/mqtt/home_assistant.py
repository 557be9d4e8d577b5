"""Announcing a runner to Home Assistant, as one device with its entities.

The format is Home Assistant's device discovery (https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery,
release 2024.11 and later).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from fer_edge_device.messages import CameraStatus, Message

if TYPE_CHECKING:
    from fer_edge_device.messages import Info, MessageFactory

_ATTRIBUTES: Final = "{{ {'scores': value_json.scores, 'counts': value_json.counts} | tojson }}"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """What Home Assistant shows of the device as a whole."""

    identifiers: tuple[str, ...]
    name: str
    manufacturer: str
    model: str
    sw_version: str


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Which program announces it."""

    name: str
    sw_version: str


class Entity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entity of the device; the keys and their values are Home Assistant's."""

    platform: Literal["sensor", "event", "switch"]
    unique_id: str
    name: str
    state_topic: str
    value_template: str = ""
    device_class: Literal["enum", "temperature", "data_size", ""] = ""
    state_class: Literal["measurement", "total_increasing", ""] = ""
    unit_of_measurement: str = ""
    options: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    command_topic: str = ""
    retain: bool = False
    json_attributes_topic: str = ""
    json_attributes_template: str = ""
    entity_category: Literal["diagnostic", ""] = ""
    icon: str = ""


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """The whole message; what stands beside the entities holds for each."""

    device: Device
    origin: Origin
    availability_topic: str
    qos: int
    components: dict[str, Entity]


def discovery_message(topics: MessageFactory, info: Info, ha_prefix: str = "homeassistant") -> Message:
    """What makes Home Assistant show the node, retained.

    Args:
        topics: of the node.
        info: what is running; its labels are what the emotion can be.
        ha_prefix: Home Assistant's discovery prefix.
    """
    announcement = Announcement(
        device=Device(
            identifiers=(topics.identity,),
            name=f"fer-edge {topics.node}",
            manufacturer="fer-edge",
            model=f"{info.model} {info.model_sha256[:8]}",
            sw_version=info.version,
        ),
        origin=Origin(name="fer-edge", sw_version=info.version),
        availability_topic=topics.topic("availability"),
        qos=1,
        components=_faces(topics, info.labels) | _diagnostics(topics),
    )
    return Message(_topic(topics, ha_prefix), msgspec.json.encode(announcement).decode(), 1, retain=True)


def removal_message(topics: MessageFactory, ha_prefix: str = "homeassistant") -> Message:
    """What makes Home Assistant forget the node."""
    return Message(_topic(topics, ha_prefix), "", 1, retain=True)


def _topic(topics: MessageFactory, ha_prefix: str) -> str:
    # A dot may be in a node's name, and not in this part of Home Assistant's topics.
    return f"{ha_prefix}/device/{topics.identity.replace('.', '_')}/config"


def _faces(topics: MessageFactory, labels: tuple[str, ...]) -> dict[str, Entity]:
    identity, state = topics.identity, topics.topic("state")
    return {
        "emotion": Entity(
            platform="sensor",
            unique_id=f"{identity}-emotion",
            name="Dominant emotion",
            state_topic=state,
            # Without faces it is None, which Home Assistant takes for unknown.
            value_template="{{ value_json.emotion }}",
            device_class="enum",
            options=labels,
            json_attributes_topic=state,
            json_attributes_template=_ATTRIBUTES,
            icon="mdi:emoticon-outline",
        ),
        "faces": Entity(
            platform="sensor",
            unique_id=f"{identity}-faces",
            name="Faces",
            state_topic=state,
            value_template="{{ value_json.faces }}",
            state_class="measurement",
            icon="mdi:account-multiple-outline",
        ),
        "face": Entity(
            platform="event",
            unique_id=f"{identity}-face",
            name="Face",
            state_topic=topics.topic("event"),
            event_types=("new", "update", "end"),
            icon="mdi:face-recognition",
        ),
        "enabled": Entity(
            platform="switch",
            unique_id=f"{identity}-enabled",
            name="Enabled",
            state_topic=topics.topic("enabled/state"),
            command_topic=topics.topic("enabled/set"),
            # Kept by the broker, so that a device that is off when the switch is thrown obeys when it is back.
            retain=True,
            icon="mdi:eye-outline",
        ),
    }


def _diagnostics(topics: MessageFactory) -> dict[str, Entity]:
    entities = {
        "fps": _figure(topics, "fps", "Frame rate", unit="fps"),
        "temperature": _figure(topics, "temp_c", "Processor temperature", unit="°C", device_class="temperature"),
        "memory": _figure(topics, "rss_mb", "Memory", unit="MB", device_class="data_size"),
        "queued": _figure(topics, "queued", "Events waiting"),
        "dropped": _figure(topics, "dropped", "Frames dropped", state_class="total_increasing"),
        "dropped_events": _figure(topics, "dropped_events", "Events dropped", state_class="total_increasing"),
    }
    entities["camera"] = Entity(
        platform="sensor",
        unique_id=f"{topics.identity}-camera",
        name="Camera",
        state_topic=topics.topic("camera"),
        device_class="enum",
        options=get_args(CameraStatus),
        entity_category="diagnostic",
        icon="mdi:camera-outline",
    )
    return entities


def _figure(
    topics: MessageFactory,
    key: str,
    name: str,
    *,
    unit: str = "",
    device_class: Literal["temperature", "data_size", ""] = "",
    state_class: Literal["measurement", "total_increasing"] = "measurement",
) -> Entity:
    """A number of the ``stats`` message."""
    return Entity(
        platform="sensor",
        unique_id=f"{topics.identity}-{key}",
        name=name,
        state_topic=topics.topic("stats"),
        value_template=f"{{{{ value_json.{key} }}}}",
        device_class=device_class,
        state_class=state_class,
        unit_of_measurement=unit,
        entity_category="diagnostic",
    )
