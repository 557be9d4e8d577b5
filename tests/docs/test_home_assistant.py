"""Compare the manual for Home Assistant with what is announced; tests/system/test_home_assistant.py asks a real one."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fer_edge_device.messages import Info, MessageFactory
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message

DOCS = Path(__file__).parents[2] / "docs" / "how-to"
MANUAL = (DOCS / "home-assistant.md").read_text()
INFO = Info(version="1", model="edge", model_sha256="0", labels=("angry", "happy"))


@pytest.fixture(scope="module")
def components() -> dict[str, dict[str, Any]]:
    message = discovery_message(MessageFactory("kitchen"), INFO, DeviceDescription())
    made: dict[str, dict[str, Any]] = json.loads(message.body())["components"]
    return made


def test_card_uses_announced_entities(components: dict[str, dict[str, Any]]) -> None:
    announced = {
        f"{entity['platform']}.fer_edge_kitchen_{entity['name'].lower().replace(' ', '_')}"
        for entity in components.values()
        if "name" in entity
    }
    used = set(re.findall(r"entity: (\S+)", (DOCS / "home-assistant" / "card.yaml").read_text()))
    assert len(used) >= 6
    assert used <= announced


def test_automation_to_copy_is_triggered_like_the_device_trigger(components: dict[str, dict[str, Any]]) -> None:
    trigger = components["became_happy"]
    for field in ("topic", "payload"):
        assert f"{field}: {trigger[field]}\n" in MANUAL
    assert f'value_template: "{trigger["value_template"]}"\n' in MANUAL


def test_manual_names_every_entity_that_is_no_diagnostic(components: dict[str, dict[str, Any]]) -> None:
    names = {
        entity["name"]
        for key, entity in components.items()
        if "name" in entity and entity.get("entity_category") != "diagnostic" and not key.startswith("score_")
    }
    assert {name for name in names if name not in MANUAL} == set()


def test_manual_lists_every_command(components: dict[str, dict[str, Any]]) -> None:
    topics = {entity["command_topic"] for entity in components.values() if "command_topic" in entity}
    assert {topic.replace("/kitchen/", "/<node>/") for topic in topics} <= set(re.findall(r"\| `([^`]+)` \|", MANUAL))
