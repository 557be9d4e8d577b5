"""Announce a node to Home Assistant as one device with its entities.

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


class HaDevice(msgspec.Struct, frozen=True, kw_only=True):
    """The device, as Home Assistant shows it."""

    identifiers: tuple[str, ...]
    name: str
    manufacturer: str
    model: str
    sw_version: str


class HaOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The program that announces the device."""

    name: str
    sw_version: str


class HaAvailability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A topic that says whether an entity is available, and with which values; Home Assistant's defaults are ours."""

    topic: str
    payload_available: str = "online"
    payload_not_available: str = "offline"


class HaEntity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entity of the device. Keys and values are those of Home Assistant."""

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
    availability: tuple[HaAvailability, ...] = ()
    availability_mode: Literal["all", ""] = ""
    json_attributes_topic: str = ""
    json_attributes_template: str = ""
    entity_category: Literal["diagnostic", ""] = ""
    icon: str = ""


class DeviceDiscovery(msgspec.Struct, frozen=True, kw_only=True):
    """The discovery message. Availability and QoS apply to every entity that has none of its own."""

    device: HaDevice
    origin: HaOrigin
    # Always a list: Home Assistant would add a single topic to the list of an entity, and refuse the whole device.
    availability: tuple[HaAvailability, ...]
    qos: int
    components: dict[str, HaEntity]


def discovery_message(messages: MessageFactory, info: Info, discovery_prefix: str = "homeassistant") -> Message:
    """Return the retained message that adds the node to Home Assistant.

    Args:
        messages: makes the node's messages.
        info: version and model; the model's labels become the options of the emotion sensor.
        discovery_prefix: Home Assistant's discovery prefix.
    """
    discovery = DeviceDiscovery(
        device=HaDevice(
            identifiers=(messages.identity,),
            name=f"fer-edge {messages.node}",
            manufacturer="fer-edge",
            model=f"{info.model} {info.model_sha256[:8]}",
            sw_version=info.version,
        ),
        origin=HaOrigin(name="fer-edge", sw_version=info.version),
        availability=(_online(messages),),
        qos=1,
        components=_face_entities(messages, info.labels) | _diagnostic_entities(messages),
    )
    return Message(_topic(messages, discovery_prefix), msgspec.json.encode(discovery).decode(), 1, retain=True)


def removal_message(messages: MessageFactory, discovery_prefix: str = "homeassistant") -> Message:
    """Return the message that removes the node from Home Assistant."""
    return Message(_topic(messages, discovery_prefix), "", 1, retain=True)


def _topic(messages: MessageFactory, discovery_prefix: str) -> str:
    # A node name may contain dots, but this part of Home Assistant's topics may not.
    return f"{discovery_prefix}/device/{messages.identity.replace('.', '_')}/config"


def _online(messages: MessageFactory) -> HaAvailability:
    return HaAvailability(topic=messages.topic("availability"))


def available_while_enabled(messages: MessageFactory) -> tuple[HaAvailability, ...]:
    """Return the availability of what only a node that is switched on can know; all of it must hold."""
    enabled = HaAvailability(topic=messages.topic("enabled/state"), payload_available="ON", payload_not_available="OFF")
    return _online(messages), enabled


def _face_entities(messages: MessageFactory, labels: tuple[str, ...]) -> dict[str, HaEntity]:
    identity, state, availability = messages.identity, messages.topic("state"), available_while_enabled(messages)
    return {
        "emotion": HaEntity(
            platform="sensor",
            unique_id=f"{identity}-emotion",
            name="Dominant emotion",
            state_topic=state,
            # None, the value without faces, means unknown to Home Assistant.
            value_template="{{ value_json.emotion }}",
            device_class="enum",
            options=labels,
            json_attributes_topic=state,
            json_attributes_template=_ATTRIBUTES,
            availability=availability,
            availability_mode="all",
            icon="mdi:emoticon-outline",
        ),
        "faces": HaEntity(
            platform="sensor",
            unique_id=f"{identity}-faces",
            name="Faces",
            state_topic=state,
            value_template="{{ value_json.faces }}",
            state_class="measurement",
            availability=availability,
            availability_mode="all",
            icon="mdi:account-multiple-outline",
        ),
        "face": HaEntity(
            platform="event",
            unique_id=f"{identity}-face",
            name="Face",
            state_topic=messages.topic("event"),
            event_types=("new", "update", "end"),
            availability=availability,
            availability_mode="all",
            icon="mdi:face-recognition",
        ),
        "enabled": HaEntity(
            platform="switch",
            unique_id=f"{identity}-enabled",
            name="Enabled",
            state_topic=messages.topic("enabled/state"),
            command_topic=messages.topic("enabled/set"),
            # Not retained: an ON that lies in the broker would switch the node on again after somebody else's OFF.
            icon="mdi:eye-outline",
        ),
    }


def _diagnostic_entities(messages: MessageFactory) -> dict[str, HaEntity]:
    entities = {
        "fps": _stats_sensor(messages, "fps", "Frame rate", unit="fps"),
        "temperature": _stats_sensor(
            messages, "temp_c", "Processor temperature", unit="°C", device_class="temperature"
        ),
        "memory": _stats_sensor(messages, "rss_mb", "Memory", unit="MB", device_class="data_size"),
        "queued": _stats_sensor(messages, "queued", "Events waiting"),
        "dropped": _stats_sensor(messages, "dropped", "Frames dropped", state_class="total_increasing"),
        "dropped_events": _stats_sensor(messages, "dropped_events", "Events dropped", state_class="total_increasing"),
    }
    entities["camera"] = HaEntity(
        platform="sensor",
        unique_id=f"{messages.identity}-camera",
        name="Camera",
        state_topic=messages.topic("camera"),
        device_class="enum",
        options=get_args(CameraStatus),
        entity_category="diagnostic",
        icon="mdi:camera-outline",
    )
    return entities


def _stats_sensor(
    messages: MessageFactory,
    key: str,
    name: str,
    *,
    unit: str = "",
    device_class: Literal["temperature", "data_size", ""] = "",
    state_class: Literal["measurement", "total_increasing"] = "measurement",
) -> HaEntity:
    """Return a sensor for a number of the ``stats`` message."""
    return HaEntity(
        platform="sensor",
        unique_id=f"{messages.identity}-{key}",
        name=name,
        state_topic=messages.topic("stats"),
        value_template=f"{{{{ value_json.{key} }}}}",
        device_class=device_class,
        state_class=state_class,
        unit_of_measurement=unit,
        entity_category="diagnostic",
    )
