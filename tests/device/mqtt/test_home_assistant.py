"""Compare the discovery message with the fields that Home Assistant documents.

See https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload, and /integrations/sensor.mqtt/,
/integrations/event.mqtt/, /integrations/device_trigger.mqtt/ and so on there.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import jinja2
import msgspec
import pytest

from fer_edge.errors import InputError
from fer_edge_device.live_settings import parse_change
from fer_edge_device.messages import Event, Info, MessageFactory, Stats
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message, removal_message

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
    "binary_sensor": {"expire_after", "off_delay", "force_update", "payload_on", "payload_off"},
    "sensor": {
        "state_class",
        "unit_of_measurement",
        "suggested_display_precision",
        "options",
        "expire_after",
        "force_update",
    },
    "event": {"event_types"},
    "number": {"command_topic", "command_template", "min", "max", "step", "mode", "unit_of_measurement", "retain"},
    "button": {"command_topic", "payload_press", "retain"},
    "switch": {"command_topic", "retain", "optimistic", "payload_on", "payload_off", "state_on", "state_off"},
}
REQUIRED = {
    "binary_sensor": {"state_topic"},
    "sensor": {"state_topic"},
    "event": {"state_topic", "event_types"},
    "switch": {"command_topic"},
    "number": {"command_topic"},
    "button": {"command_topic"},
}
TRIGGER = {"platform", "automation_type", "type", "subtype", "topic", "payload", "value_template"}
# The device classes that are used, of https://www.home-assistant.io/integrations/sensor/#device-class
UNITS = {"temperature": {"°C", "°F", "K"}, "data_size": {"B", "kB", "MB", "GB", "MiB"}}
STATE_CLASSES = {"measurement", "total", "total_increasing"}


STATE = '{"faces": 3, "unclear": 1, "emotion": "happy", "scores": {"happy": 0.7512}, "counts": {"happy": 2}}'
EMPTY = '{"faces": 0, "unclear": 0, "emotion": null, "scores": {}, "counts": {}}'


def event(event_type: Literal["new", "update", "end"], previous: str | None = None, *, reliable: bool = True) -> str:
    return msgspec.json.encode(
        Event(
            event_type=event_type,
            id="s-1",
            time=1.5,
            emotion="happy",
            score=0.7,
            scores={"happy": 0.7, "angry": 0.3},
            reliable=reliable,
            previous=previous,
            box=(0.1, 0.2, 0.3, 0.4),
            duration_s=2.0,
            model="edge",
        )
    ).decode()


NEW, UPDATE, END = event("new"), event("update", "angry"), event("end")


def discovery(
    node: str = "kitchen", prefix: str = "fer-edge", *, info: Info = INFO, **description: str | bool
) -> dict[str, Any]:
    details = msgspec.convert(description, DeviceDescription)
    message = discovery_message(MessageFactory(node, prefix), info, details)
    assert (message.qos, message.retain) == (1, True)
    payload: dict[str, Any] = json.loads(message.body())
    return payload


def components(info: Info = INFO, *, has_temperature: bool = True) -> dict[str, dict[str, Any]]:
    """Return the components that are not removals."""
    made: dict[str, dict[str, Any]] = discovery(info=info, has_temperature=has_temperature)["components"]
    return {key: component for key, component in made.items() if component.keys() != {"platform"}}


def entities() -> dict[str, dict[str, Any]]:
    return {key: made for key, made in components().items() if made["platform"] != "device_automation"}


def triggers() -> dict[str, dict[str, Any]]:
    return {key: made for key, made in components().items() if made["platform"] == "device_automation"}


def render(template: str, payload: str) -> str:
    """Render a template as Home Assistant does, as far as these templates need it."""
    try:
        value_json = json.loads(payload)
    except ValueError:  # plain text
        value_json = None
    environment = jinja2.Environment(autoescape=False)  # noqa: S701 - no HTML
    return environment.from_string(template).render(value=payload, value_json=value_json)


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
    for entity in entities().values():
        if entity.get("state_topic", "").endswith(("kitchen/state", "/event")):
            assert entity["availability"] == [online, enabled]
            assert entity["availability_mode"] == "all"
        else:
            assert "availability" not in entity
    # Both topics are retained, so that they hold for a Home Assistant that starts later.
    messages = MessageFactory("kitchen")
    assert messages.availability("online").retain
    assert messages.enabled(enabled=False).retain


def test_no_command_is_retained() -> None:
    # The default of retain is false.
    commands = {key: entity.get("retain", False) for key, entity in entities().items() if "command_topic" in entity}
    assert commands == {"enabled": False, "margin": False, "hold": False, "restart": False}


def test_numbers_have_the_bounds_of_the_configuration() -> None:
    made = entities()
    assert (made["margin"]["min"], made["margin"]["max"], made["margin"]["step"]) == (0, 1, 0.01)
    assert (made["hold"]["min"], made["hold"]["max"], made["hold"]["step"]) == (0, 60, 0.1)
    for key, value, expected in (("margin", "0.25", 0.25), ("hold", "2.0", 2.0)):
        template = jinja2.Environment(autoescape=False).from_string(made[key]["command_template"])  # noqa: S701
        change = parse_change(template.render(value=value).encode())
        assert list(change.changes().values()) == [expected]
        state = json.dumps({"margin": 0.25, "hold_s": 2.0})
        assert float(render(made[key]["value_template"], state)) == expected


@pytest.mark.parametrize("key", entities())
def test_each_entity_has_only_the_fields_of_its_platform(key: str) -> None:
    entity = entities()[key]
    platform = entity["platform"]
    assert entity.keys() <= COMMON | OPTIONAL[platform]
    assert entity.keys() >= {"unique_id", "name"} | REQUIRED[platform]
    category = {"number": "config", "button": "config"}.get(platform, "diagnostic")
    assert entity.get("entity_category", category) == category
    assert all("#" not in entity[name] and "+" not in entity[name] for name in entity if name.endswith("_topic"))
    assert "" not in entity.values()
    if platform != "sensor":
        return
    if entity.get("device_class") == "enum":
        assert entity["options"]
        assert not entity.keys() & {"state_class", "unit_of_measurement"}
    else:
        assert entity["state_class"] in STATE_CLASSES
        assert "options" not in entity
        if "device_class" in entity:
            assert entity["unit_of_measurement"] in UNITS[entity["device_class"]]


def test_every_entity_of_every_node_has_its_own_id() -> None:
    devices = [discovery("kitchen"), discovery("hall"), *(discovery("hall", site) for site in ("a/b", "a_b", "a b"))]
    made = [entity for device in devices for entity in device["components"].values()]
    ids = [entity["unique_id"] for entity in made if "unique_id" in entity]
    assert len(set(ids)) == len(ids)
    assert len({device["device"]["identifiers"][0] for device in devices}) == len(devices)


@pytest.mark.parametrize(
    ("key", "field", "payload", "expected"),
    [
        ("emotion", "value_template", STATE, "happy"),
        ("emotion", "value_template", EMPTY, "None"),
        (
            "emotion",
            "json_attributes_template",
            STATE,
            '{"counts": {"happy": 2}, "scores": {"happy": 0.7512}, "unclear": 1}',
        ),
        ("faces", "value_template", STATE, "3"),
        ("occupancy", "value_template", STATE, "ON"),
        ("occupancy", "value_template", EMPTY, "OFF"),
        ("score_happy", "value_template", STATE, "75.1"),
        ("score_angry", "value_template", STATE, "None"),
        ("score_happy", "value_template", EMPTY, "None"),
        ("camera_problem", "value_template", "online", "OFF"),
        ("camera_problem", "value_template", "stalled", "ON"),
        ("camera_problem", "value_template", "offline", "ON"),
        ("camera_problem", "value_template", "disabled", "OFF"),
        ("face_appeared", "value_template", NEW, "new"),
        ("became_happy", "value_template", NEW, "happy"),
        ("became_happy", "value_template", UPDATE, "happy"),
        ("became_happy", "value_template", END, ""),
        ("became_happy", "value_template", event("new", reliable=False), ""),
        ("face_appeared", "value_template", event("new", reliable=False), "new"),
    ],
)
def test_template_gives(key: str, field: str, payload: str, expected: str) -> None:
    assert render(components()[key][field], payload) == expected


def test_stats_templates_name_fields_of_stats() -> None:
    fields = {field.name for field in msgspec.structs.fields(Stats)}
    templates = [
        made["value_template"] for made in entities().values() if made.get("state_topic", "").endswith("/stats")
    ]
    assert len(templates) >= 6
    assert {name for template in templates for name in re.findall(r"value_json\.(\w+)", template)} <= fields


def test_event_attributes_are_small_for_the_recorder() -> None:
    attributes = json.loads(render(entities()["face"]["value_template"], UPDATE))
    assert attributes == {
        "event_type": "update",
        "id": "s-1",
        "time": 1.5,
        "emotion": "happy",
        "score": 0.7,
        "reliable": True,
        "previous": "angry",
        "duration_s": 2.0,
    }


def test_each_trigger_has_only_the_fields_of_its_platform() -> None:
    made = triggers()
    assert [trigger["type"] for trigger in made.values()] == [
        "appeared",
        "became angry",
        "became happy",
        "became neutral",
    ]
    for trigger in made.values():
        assert trigger.keys() == TRIGGER
        assert (trigger["topic"], trigger["subtype"]) == ("fer-edge/kitchen/event", "face")
    assert [trigger["payload"] for trigger in made.values()] == ["new", "angry", "happy", "neutral"]


def test_score_sensors_are_disabled_and_own_the_label() -> None:
    labels = ('say "hi" }}', "a_b", "a b", "müde\\n", "\N{GRINNING FACE}")
    made = components(Info(version="1", model="m", model_sha256="0", labels=labels))
    scores = {key: entity for key, entity in made.items() if key.startswith("score_")}
    assert len(scores) == len(labels)
    state = json.dumps({"scores": {label: (number + 1) / 100 for number, label in enumerate(labels)}})
    assert [render(entity["value_template"], state) for entity in scores.values()] == [
        "1.0",
        "2.0",
        "3.0",
        "4.0",
        "5.0",
    ]
    disabled = {key for key, entity in made.items() if not entity.get("enabled_by_default", True)}
    assert disabled == {*scores, "skipped"}


def test_removes_entities_of_another_model_or_machine() -> None:
    sent = discovery(has_temperature=False)["components"]
    assert sent["temperature"] == sent["score_contempt"] == {"platform": "sensor"}
    assert sent["became_sad"] == {"platform": "device_automation"}
    assert "temperature" in components(has_temperature=True)


def test_every_diagnostic_has_its_own_icon_or_a_device_class_that_has_one() -> None:
    icons = [entity["icon"] for entity in entities().values() if "icon" in entity]
    own = [icon for icon in icons if icon != "mdi:percent-outline"]
    assert len(set(own)) == len(own)
    without = {key for key, entity in entities().items() if "icon" not in entity}
    assert without == {"occupancy", "camera_problem", "restart"}


def test_names_and_area_come_from_the_description() -> None:
    device = discovery(display_name="Kamera Küche", suggested_area="Küche")["device"]
    assert (device["name"], device["suggested_area"]) == ("Kamera Küche", "Küche")
    plain = discovery()["device"]
    assert plain["name"] == "fer-edge kitchen"
    assert "suggested_area" not in plain


def test_device_links_to_the_page() -> None:
    assert discovery(page_url="http://pi.local:8080/")["device"]["configuration_url"] == "http://pi.local:8080/"
    assert "configuration_url" not in discovery()["device"]


def test_entities_match_the_published_messages() -> None:
    made = entities()
    assert made["emotion"]["options"] == list(INFO.labels)
    assert made["face"]["event_types"] == ["new", "update", "end"]
    # The event entity needs JSON with an event_type; the other fields become attributes.
    assert "event_type" in {field.name for field in msgspec.structs.fields(Event)}
    switch = made["enabled"]
    messages = MessageFactory("kitchen")
    assert (switch["state_topic"], switch["command_topic"]) == (
        messages.topic("enabled/state"),
        messages.topic("enabled/set"),
    )
    # The defaults of payload_on and state_on are ON and OFF.
    assert [messages.enabled(on).payload for on in (True, False)] == ["ON", "OFF"]
    assert made["camera"]["options"] == ["online", "stalled", "offline", "disabled"]


def test_no_two_nodes_share_a_name_at_the_broker_or_a_topic() -> None:
    sites = ["fer-edge", "x", "x/y", "x_y", "x-y", "éa", "\u0e9a", "a", "a/b"]
    names = [
        "pi.hall",
        "pi_hall",
        "pi-hall",
        "pi_2ehall",
        "pi_5f2ehall",
        "pi__hall",
        "y-z",
        "x-y-z",
        "b-z",
        "a-b-z",
        "z",
    ]
    nodes = [MessageFactory(name, site) for name in names for site in sites]
    assert len({node.identity for node in nodes}) == len(nodes)
    topics = [discovery_message(node, INFO, DeviceDescription()).topic for node in [*nodes, MessageFactory("pi_hall")]]
    assert len(set(topics)) == len(nodes)
    assert topics[-1] == "homeassistant/device/fer-edge-pi_hall/config"


@pytest.mark.parametrize("name", [".", "..", "-", "_", "-.-", "a/b", "", "x" * 65, "hall\n"])
def test_refuses_a_name_that_is_none(name: str) -> None:
    with pytest.raises(InputError, match="not a valid node name"):
        MessageFactory(name)


@pytest.mark.parametrize("node", ["kitchen", "kitchen.2", "Kitchen_2-b"])
@pytest.mark.parametrize("prefix", ["fer-edge", "haus/küche 2"])
def test_topic_is_valid_and_can_be_removed(node: str, prefix: str) -> None:
    messages = MessageFactory(node, prefix)
    message, removal = discovery_message(messages, INFO, DeviceDescription()), removal_message(messages)
    assert re.fullmatch(TOPIC, message.topic)
    assert (removal.topic, removal.body(), removal.retain) == (message.topic, b"", True)
    assert discovery_message(messages, INFO, DeviceDescription(), "ha/2").topic.startswith("ha/2/device/")
