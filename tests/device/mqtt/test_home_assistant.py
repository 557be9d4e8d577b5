"""Compare the discovery message with the fields that Home Assistant documents.

See https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, and /integrations/sensor.mqtt/,
/integrations/event.mqtt/ and /integrations/switch.mqtt/ there.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from fer_edge_device.messages import Event, Info, MessageFactory, State, Stats
from fer_edge_device.mqtt.home_assistant import discovery_message, removal_message

INFO = Info(version="1.2", model="edge", model_sha256="0123456789abcdef", labels=("angry", "happy", "neutral"))

# "<discovery_prefix>/<component>/[<node_id>/]<object_id>/config": letters, digits, underscore and hyphen
TOPIC = r"homeassistant/device/[A-Za-z0-9_-]+/config"
DEVICE = {
    "configuration_url",
    "connections",
    "hw_version",
    "identifiers",
    "manufacturer",
    "model",
    "model_id",
    "name",
    "serial_number",
    "suggested_area",
    "sw_version",
    "via_device",
}
COMMON = {
    "platform",
    "unique_id",
    "name",
    "icon",
    "entity_category",
    "enabled_by_default",
    "json_attributes_topic",
    "json_attributes_template",
    "state_topic",
    "value_template",
    "device_class",
    "availability",
    "availability_mode",
}
OPTIONAL = {
    "sensor": {"state_class", "unit_of_measurement", "options", "expire_after", "force_update"},
    "event": {"event_types"},
    "switch": {"command_topic", "retain", "optimistic", "payload_on", "payload_off", "state_on", "state_off"},
}
REQUIRED = {"sensor": {"state_topic"}, "event": {"state_topic", "event_types"}, "switch": {"command_topic"}}
# The device classes that are used, of https://www.home-assistant.io/integrations/sensor/#device-class
UNITS = {"temperature": {"°C", "°F", "K"}, "data_size": {"B", "kB", "MB", "GB", "MiB"}}
STATE_CLASSES = {"measurement", "total", "total_increasing"}


def discovery(node: str = "kitchen", prefix: str = "fer-edge") -> dict[str, Any]:
    message = discovery_message(MessageFactory(node, prefix), INFO)
    assert (message.qos, message.retain) == (1, True)
    payload: dict[str, Any] = json.loads(message.body())
    return payload


def entities() -> dict[str, dict[str, Any]]:
    components: dict[str, dict[str, Any]] = discovery()["components"]
    return components


def test_contains_device_origin_and_components() -> None:
    payload = discovery()
    assert set(payload) == {"device", "origin", "availability", "qos", "components"}
    assert payload["device"].keys() <= DEVICE
    assert payload["device"]["identifiers"] == ["fer-edge-kitchen"]
    assert payload["device"]["sw_version"] == "1.2"
    assert payload["origin"] == {"name": "fer-edge", "sw_version": "1.2"}
    # The defaults of payload_available and payload_not_available are online and offline.
    assert payload["availability"] == [{"topic": "fer-edge/kitchen/availability"}]


def test_faces_are_unavailable_while_the_node_is_offline_or_switched_off() -> None:
    online = {"topic": "fer-edge/kitchen/availability"}
    enabled = {"topic": "fer-edge/kitchen/enabled/state", "payload_available": "ON", "payload_not_available": "OFF"}
    # An entity's own list replaces that of the device.
    for key, entity in entities().items():
        if entity["state_topic"].endswith(("/state", "/event")) and key != "enabled":
            assert entity["availability"] == [online, enabled]
            assert entity["availability_mode"] == "all"
        else:
            assert "availability" not in entity
    # Both topics are retained, so that they hold for a Home Assistant that starts later.
    messages = MessageFactory("kitchen")
    assert messages.availability("online").retain
    assert messages.enabled(enabled=False).retain


def test_no_command_of_the_switch_is_retained() -> None:
    # The default of retain is false.
    assert not entities()["enabled"].get("retain")


@pytest.mark.parametrize("key", entities())
def test_each_entity_has_only_the_fields_of_its_platform(key: str) -> None:
    entity = entities()[key]
    platform = entity["platform"]
    assert entity.keys() <= COMMON | OPTIONAL[platform]
    assert entity.keys() >= {"unique_id", "name"} | REQUIRED[platform]
    assert entity.get("entity_category", "diagnostic") == "diagnostic"
    assert all("#" not in entity[name] and "+" not in entity[name] for name in entity if name.endswith("_topic"))
    assert "" not in entity.values()
    if platform == "sensor" and entity.get("device_class") == "enum":
        assert entity["options"]
        assert not entity.keys() & {"state_class", "unit_of_measurement"}
    elif platform == "sensor":
        assert entity["state_class"] in STATE_CLASSES
        assert "options" not in entity
        if "device_class" in entity:
            assert entity["unit_of_measurement"] in UNITS[entity["device_class"]]


def test_every_entity_of_every_node_has_its_own_id() -> None:
    devices = [discovery("kitchen"), discovery("hall"), *(discovery("hall", site) for site in ("a/b", "a_b", "a b"))]
    ids = [entity["unique_id"] for device in devices for entity in device["components"].values()]
    assert len(set(ids)) == len(ids)
    assert len({device["device"]["identifiers"][0] for device in devices}) == len(devices)


def test_templates_use_fields_of_the_messages() -> None:
    kinds: dict[str, type[State | Stats]] = {"fer-edge/kitchen/state": State, "fer-edge/kitchen/stats": Stats}
    count = 0
    for entity in entities().values():
        for template in (entity.get("value_template", ""), entity.get("json_attributes_template", "")):
            fields = {field.name for field in msgspec.structs.fields(kinds.get(entity["state_topic"], Stats))}
            used = set(re.findall(r"value_json\.(\w+)", template))
            assert used <= fields
            count += len(used)
    assert count == 10


def test_entities_match_the_published_messages() -> None:
    components = entities()
    assert components["emotion"]["options"] == list(INFO.labels)
    assert components["face"]["event_types"] == ["new", "update", "end"]
    # The event entity needs JSON with an event_type; the other fields become attributes.
    assert "event_type" in {field.name for field in msgspec.structs.fields(Event)}
    switch = components["enabled"]
    messages = MessageFactory("kitchen")
    assert (switch["state_topic"], switch["command_topic"]) == (
        messages.topic("enabled/state"),
        messages.topic("enabled/set"),
    )
    # The defaults of payload_on and state_on are ON and OFF.
    assert [messages.enabled(on).payload for on in (True, False)] == ["ON", "OFF"]
    assert components["camera"]["options"] == ["online", "stalled", "offline"]


@pytest.mark.parametrize("node", ["kitchen", "kitchen.2", "Kitchen_2-b"])
@pytest.mark.parametrize("prefix", ["fer-edge", "haus/küche 2"])
def test_topic_is_valid_and_can_be_removed(node: str, prefix: str) -> None:
    messages = MessageFactory(node, prefix)
    message, removal = discovery_message(messages, INFO), removal_message(messages)
    assert re.fullmatch(TOPIC, message.topic)
    assert (removal.topic, removal.body(), removal.retain) == (message.topic, b"", True)
    assert discovery_message(messages, INFO, "ha/2").topic.startswith("ha/2/device/")
