"""The entities and device triggers of a node in Home Assistant.

Keys and values are those of Home Assistant's MQTT integration
(https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, Literal, get_args

import msgspec

from fer_edge_device.config.settings import HoldTime, Margin
from fer_edge_device.messages import CameraStatus

if TYPE_CHECKING:
    from fer_edge_device.messages import MessageFactory

Platform = Literal["binary_sensor", "button", "device_automation", "event", "number", "sensor", "switch"]
SensorClass = Literal["data_size", "enum", "temperature", ""]
StateClass = Literal["measurement", "total_increasing", ""]

_STATE_ATTRIBUTES: Final = (
    "{{ {'scores': value_json.scores, 'counts': value_json.counts, 'unclear': value_json.unclear} | tojson }}"
)
# Home Assistant records the attributes of every event. Without the box and all scores they are small.
_EVENT: Final = (
    "{{ {'event_type': value_json.event_type, 'id': value_json.id, 'time': value_json.time,"
    " 'emotion': value_json.emotion, 'score': value_json.score, 'reliable': value_json.reliable,"
    " 'previous': value_json.previous,"
    " 'duration_s': value_json.duration_s} | tojson }}"
)


class HaAvailability(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A topic that says whether an entity is available, and with which values; Home Assistant's defaults are ours."""

    topic: str
    payload_available: str = "online"
    payload_not_available: str = "offline"


class HaEntity(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entity of the device."""

    platform: Platform
    unique_id: str
    name: str
    state_topic: str = ""
    value_template: str = ""
    device_class: SensorClass | Literal["duration", "occupancy", "problem", "restart"] = ""
    state_class: StateClass = ""
    unit_of_measurement: str = ""
    suggested_display_precision: int | None = None
    options: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    command_topic: str = ""
    command_template: str = ""
    min: float | None = None
    max: float | None = None
    step: float | None = None
    mode: Literal["box", "slider", ""] = ""
    availability: tuple[HaAvailability, ...] = ()
    availability_mode: Literal["all", ""] = ""
    json_attributes_topic: str = ""
    json_attributes_template: str = ""
    entity_category: Literal["config", "diagnostic", ""] = ""
    enabled_by_default: bool = True
    icon: str = ""


class HaTrigger(msgspec.Struct, frozen=True, kw_only=True):
    """A device trigger, which the editor of automations offers for the device; shown as ``"<subtype>" <type>``."""

    type: str
    topic: str
    payload: str
    value_template: str
    subtype: str = "face"
    automation_type: str = "trigger"
    platform: Platform = "device_automation"


class HaRemoval(msgspec.Struct, frozen=True):
    """Removes a component that an earlier announcement may have added."""

    platform: Platform


Components = dict[str, HaEntity | HaTrigger | HaRemoval]


def make_components(messages: MessageFactory, labels: tuple[str, ...], *, has_temperature: bool) -> Components:
    """Make the components of a node.

    Args:
        messages: makes the node's messages.
        labels: the labels of the model.
        has_temperature: whether the system reports the temperature of the processor.
    """
    return (
        _while_enabled(messages, _face_sensors(messages, labels))
        | {"enabled": _switch(messages)}
        | _triggers(messages, labels)
        | _controls(messages)
        | _diagnostic_entities(messages, has_temperature=has_temperature)
    )


def removed_components(old: Components, new: Components) -> Components:
    """Return removals of the components that are no longer there."""
    return {key: HaRemoval(component.platform) for key, component in old.items() if key not in new}


def _while_enabled(messages: MessageFactory, entities: dict[str, HaEntity]) -> Components:
    """Return entities that are available only while the node is online and switched on."""
    online = HaAvailability(topic=messages.topic("availability"))
    enabled = HaAvailability(topic=messages.topic("enabled/state"), payload_available="ON", payload_not_available="OFF")
    return {
        key: msgspec.structs.replace(entity, availability=(online, enabled), availability_mode="all")
        for key, entity in entities.items()
    }


def _face_sensors(messages: MessageFactory, labels: tuple[str, ...]) -> dict[str, HaEntity]:
    """Return the entities that say something about faces."""
    identity, state = messages.identity, messages.topic("state")
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
            json_attributes_template=_STATE_ATTRIBUTES,
            icon="mdi:emoticon-outline",
        ),
        "faces": HaEntity(
            platform="sensor",
            unique_id=f"{identity}-faces",
            name="Faces",
            state_topic=state,
            value_template="{{ value_json.faces }}",
            state_class="measurement",
            icon="mdi:account-multiple-outline",
        ),
        "occupancy": HaEntity(
            platform="binary_sensor",
            unique_id=f"{identity}-occupancy",
            name="Occupancy",
            state_topic=state,
            value_template="{{ 'ON' if value_json.faces else 'OFF' }}",
            device_class="occupancy",
        ),
        "face": HaEntity(
            platform="event",
            unique_id=f"{identity}-face",
            name="Face",
            state_topic=messages.topic("event"),
            value_template=_EVENT,
            event_types=("new", "update", "end"),
            icon="mdi:face-recognition",
        ),
        **{f"score_{_slug(label)}": _score_sensor(messages, label) for label in labels},
    }


def _switch(messages: MessageFactory) -> HaEntity:
    return HaEntity(
        platform="switch",
        unique_id=f"{messages.identity}-enabled",
        name="Enabled",
        state_topic=messages.topic("enabled/state"),
        command_topic=messages.topic("enabled/set"),
        # Not retained: an ON that lies in the broker would switch the node on again after somebody else's OFF.
        icon="mdi:eye-outline",
    )


def _score_sensor(messages: MessageFactory, label: str) -> HaEntity:
    key = json.dumps(label, ensure_ascii=False)  # Jinja's strings are like those of JSON
    return HaEntity(
        platform="sensor",
        unique_id=f"{messages.identity}-score-{_slug(label)}",
        name=f"Score {label}",
        state_topic=messages.topic("state"),
        # Without faces there are no scores.
        value_template=f"{{{{ (value_json.scores[{key}] * 100) | round(1) if {key} in value_json.scores else None }}}}",
        state_class="measurement",
        unit_of_measurement="%",
        suggested_display_precision=0,
        enabled_by_default=False,
        icon="mdi:percent-outline",
    )


def _triggers(messages: MessageFactory, labels: tuple[str, ...]) -> Components:
    topic = messages.topic("event")
    triggers: Components = {
        "face_appeared": HaTrigger(
            type="appeared", topic=topic, value_template="{{ value_json.event_type }}", payload="new"
        )
    }
    for label in labels:
        triggers[f"became_{_slug(label)}"] = HaTrigger(
            type=f"became {label}",
            topic=topic,
            # Also a face that appears with the emotion; not one that leaves with it, and none that is hard to see.
            value_template="{{ value_json.emotion if value_json.event_type != 'end' and value_json.reliable else '' }}",
            payload=label,
        )
    return triggers


def _controls(messages: MessageFactory) -> Components:
    margin = _number(messages, "margin", "Emotion margin", Margin, step=0.01, icon="mdi:tune-variant")
    hold = _number(messages, "hold_s", "Emotion hold time", HoldTime, step=0.1, icon="mdi:timer-sand")
    return {
        "margin": msgspec.structs.replace(margin, mode="slider"),
        "hold": msgspec.structs.replace(hold, mode="box", unit_of_measurement="s", device_class="duration"),
        "restart": HaEntity(
            platform="button",
            unique_id=f"{messages.identity}-restart",
            name="Restart",
            command_topic=messages.topic("restart/set"),
            device_class="restart",
            entity_category="config",
        ),
    }


def _number(messages: MessageFactory, key: str, name: str, kind: object, *, step: float, icon: str) -> HaEntity:
    """Return a number for one of the settings that may be changed, whose type has its bounds."""
    bounds = next(each for each in get_args(kind) if isinstance(each, msgspec.Meta))
    return HaEntity(
        platform="number",
        unique_id=f"{messages.identity}-{key}",
        name=name,
        state_topic=messages.topic("settings/state"),
        value_template=f"{{{{ value_json.{key} }}}}",
        command_topic=messages.topic("settings/set"),
        command_template=f'{{"{key}": {{{{ value }}}}}}',
        min=bounds.ge,
        max=bounds.le,
        step=step,
        entity_category="config",
        icon=icon,
    )


def _diagnostic_entities(messages: MessageFactory, *, has_temperature: bool) -> Components:
    identity, camera = messages.identity, messages.topic("camera")
    entities: Components = {
        "fps": _stats_sensor(messages, "fps", "Frame rate", unit="fps", icon="mdi:speedometer"),
        "temperature": _stats_sensor(
            messages, "temp_c", "Processor temperature", unit="°C", device_class="temperature", icon="mdi:thermometer"
        )
        if has_temperature
        else HaRemoval("sensor"),
        "memory": _stats_sensor(messages, "rss_mb", "Memory", unit="MB", device_class="data_size", icon="mdi:memory"),
        "queued": _stats_sensor(messages, "queued", "Events waiting", icon="mdi:tray-full"),
        # Climbs all the time, because a camera gives more frames than are wanted.
        "skipped": _stats_sensor(
            messages,
            "skipped",
            "Frames skipped",
            state_class="total_increasing",
            icon="mdi:filmstrip-box-multiple",
            enabled_by_default=False,
        ),
        "dropped": _stats_sensor(
            messages, "dropped", "Frames dropped", state_class="total_increasing", icon="mdi:filmstrip-off"
        ),
        "dropped_events": _stats_sensor(
            messages, "dropped_events", "Events dropped", state_class="total_increasing", icon="mdi:tray-remove"
        ),
        "camera": HaEntity(
            platform="sensor",
            unique_id=f"{identity}-camera",
            name="Camera",
            state_topic=camera,
            device_class="enum",
            options=get_args(CameraStatus),
            entity_category="diagnostic",
            icon="mdi:camera-outline",
        ),
        "camera_problem": HaEntity(
            platform="binary_sensor",
            unique_id=f"{identity}-camera-problem",
            name="Camera problem",
            state_topic=camera,
            value_template="{{ 'ON' if value in ['stalled', 'offline'] else 'OFF' }}",
            device_class="problem",
            entity_category="diagnostic",
        ),
    }
    return entities


def _stats_sensor(
    messages: MessageFactory,
    key: str,
    name: str,
    *,
    icon: str,
    unit: str = "",
    device_class: SensorClass = "",
    state_class: StateClass = "measurement",
    enabled_by_default: bool = True,
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
        icon=icon,
        enabled_by_default=enabled_by_default,
    )


def _slug(label: str) -> str:
    """Return a label in letters, digits and underscores, so that two labels never give the same name."""
    return re.sub(r"[^A-Za-z0-9]", lambda char: f"_{ord(char[0]):x}_", label)
