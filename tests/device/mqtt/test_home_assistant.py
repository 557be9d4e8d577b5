"""Home Assistant's documented fields.

https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, and /integrations/sensor.mqtt/,
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
}
OPTIONAL = {
    "sensor": {"state_class", "unit_of_measurement", "options", "expire_after", "force_update"},
    "event": {"event_types"},
    "switch": {"command_topic", "retain", "optimistic", "payload_on", "payload_off", "state_on", "state_off"},
}
REQUIRED = {"sensor": {"state_topic"}, "event": {"state_topic", "event_types"}, "switch": {"command_topic"}}
# Of the device classes of https://www.home-assistant.io/integrations/sensor/#device-class those that are used.
UNITS = {"temperature": {"°C", "°F", "K"}, "data_size": {"B", "kB", "MB", "GB", "MiB"}}
STATE_CLASSES = {"measurement", "total", "total_increasing"}


def announced(node: str = "kitchen", prefix: str = "fer-edge") -> dict[str, Any]:
    message = discovery_message(MessageFactory(node, prefix), INFO)
    assert (message.qos, message.retain) == (1, True)
    payload: dict[str, Any] = json.loads(message.body())
    return payload


def entities() -> dict[str, dict[str, Any]]:
    components: dict[str, dict[str, Any]] = announced()["components"]
    return components


def test_the_whole_has_a_device_its_origin_and_its_components() -> None:
    payload = announced()
    assert set(payload) == {"device", "origin", "availability_topic", "qos", "components"}
    assert payload["device"].keys() <= DEVICE
    assert payload["device"]["identifiers"] == ["fer-edge-kitchen"]
    assert payload["device"]["sw_version"] == "1.2"
    assert payload["origin"] == {"name": "fer-edge", "sw_version": "1.2"}
    # Home Assistant's own words for it, payload_available and payload_not_available, are online and offline too.
    assert payload["availability_topic"] == "fer-edge/kitchen/availability"


@pytest.mark.parametrize("key", entities())
def test_each_entity_has_the_fields_of_its_kind_and_no_others(key: str) -> None:
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


def test_no_two_entities_have_one_id_and_nodes_share_none() -> None:
    devices = [announced("kitchen"), announced("hall"), *(announced("hall", site) for site in ("a/b", "a_b", "a b"))]
    ids = [entity["unique_id"] for device in devices for entity in device["components"].values()]
    assert len(set(ids)) == len(ids)
    assert len({device["device"]["identifiers"][0] for device in devices}) == len(devices)


def test_templates_name_fields_that_the_messages_have() -> None:
    kinds: dict[str, type[State | Stats]] = {"fer-edge/kitchen/state": State, "fer-edge/kitchen/stats": Stats}
    seen = 0
    for entity in entities().values():
        for template in (entity.get("value_template", ""), entity.get("json_attributes_template", "")):
            fields = {field.name for field in msgspec.structs.fields(kinds.get(entity["state_topic"], Stats))}
            named = set(re.findall(r"value_json\.(\w+)", template))
            assert named <= fields
            seen += len(named)
    assert seen == 10


def test_what_the_entities_expect_is_what_is_published() -> None:
    components = entities()
    assert components["emotion"]["options"] == list(INFO.labels)
    assert components["face"]["event_types"] == ["new", "update", "end"]
    # The event entity wants JSON with an event_type; everything beside it becomes an attribute.
    assert "event_type" in {field.name for field in msgspec.structs.fields(Event)}
    switch = components["enabled"]
    topics = MessageFactory("kitchen")
    assert (switch["state_topic"], switch["command_topic"]) == (
        topics.topic("enabled/state"),
        topics.topic("enabled/set"),
    )
    # Without payload_on and state_on, ON and OFF are the switch's words.
    assert [topics.enabled(on).payload for on in (True, False)] == ["ON", "OFF"]
    assert components["camera"]["options"] == ["online", "stalled", "offline"]


@pytest.mark.parametrize("node", ["kitchen", "kitchen.2", "Kitchen_2-b"])
@pytest.mark.parametrize("prefix", ["fer-edge", "haus/küche 2"])
def test_the_topic_is_one_that_home_assistant_looks_at_and_removal_empties_it(node: str, prefix: str) -> None:
    topics = MessageFactory(node, prefix)
    message, removal = discovery_message(topics, INFO), removal_message(topics)
    assert re.fullmatch(TOPIC, message.topic)
    assert (removal.topic, removal.body(), removal.retain) == (message.topic, b"", True)
    assert discovery_message(topics, INFO, "ha/2").topic.startswith("ha/2/device/")
