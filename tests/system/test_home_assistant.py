"""Test discovery, commands and the documented automations with a real Home Assistant; see `home_assistant`."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import msgspec
import pytest

from fer_edge import demo
from fer_edge_device.messages import Event, Info, MessageFactory
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message
from tests.device.brokers import Mosquitto, Subscriber, subscribing, wait_for
from tests.processes import Process
from tests.system.home_assistant import COMMAND, HomeAssistant

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("home-assistant"),
    pytest.mark.skipif(
        not COMMAND,
        reason="needs a Home Assistant 2024.11 or later, which needs another Python: set HASS_COMMAND to its hass",
    ),
]
DOCS = Path(__file__).parents[2] / "docs" / "how-to"
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


class Setup(NamedTuple):
    """A Home Assistant, the node ``kitchen`` that it knows, and what is published at their broker."""

    assistant: HomeAssistant
    subscriber: Subscriber

    def until(self, entity: str, state: str) -> dict[str, Any]:
        return self.assistant.wait_for_state(entity, lambda found: found == state)

    def device(self, name: str) -> dict[str, Any]:
        found = [device for device in self.assistant.ask("config/device_registry/list") if device["name"] == name]
        assert len(found) == 1
        result: dict[str, Any] = found[0]
        return result


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder = tmp_path_factory.mktemp("home-assistant")
    video = folder / "video"
    video.mkdir()
    assert cv2.imwrite(str(video / "0000.png"), demo.frame(10))
    for number in range(1, 9000):  # a quarter of an hour with a face
        (video / f"{number:04}.png").hardlink_to(video / "0000.png")
    with Mosquitto(folder / "broker") as broker, HomeAssistant(folder / "assistant") as assistant:
        assistant.connect_to_broker(broker.port)
        path = folder / "config.toml"
        path.write_text(
            f'node = "kitchen"\n[camera]\nsource = "{video}"\n[events]\nstats_interval_s = 1.0\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\nha_discovery = true\n'
            f'[outbox]\npath = "{folder}/outbox.sqlite"\n[log]\nmessages = false\n'
        )
        command = [sys.executable, "-m", "fer_edge.cli", "run", "--realtime", "--config", str(path)]
        with subscribing(broker.port) as subscriber, Process(command) as node:
            made = Setup(assistant, subscriber)
            made.until("sensor.fer_edge_kitchen_faces", "1")
            yield made
            node.terminate()


def test_every_entity_has_a_state(setup: Setup) -> None:
    setup.assistant.wait_for_state("sensor.fer_edge_kitchen_frame_rate", lambda state: state != "unknown")
    states = {
        entity.partition(".fer_edge_kitchen_")[::2]: state
        for entity, state in setup.assistant.states().items()
        if ".fer_edge_kitchen_" in entity
    }
    temperature = {("sensor", "processor_temperature")} if Path("/sys/class/thermal/thermal_zone0").exists() else set()
    assert states.keys() == temperature | {
        ("sensor", "dominant_emotion"),
        ("sensor", "faces"),
        ("binary_sensor", "occupancy"),
        ("event", "face"),
        ("switch", "enabled"),
        ("number", "emotion_margin"),
        ("number", "emotion_hold_time"),
        ("button", "restart"),
        ("binary_sensor", "camera_problem"),
        ("sensor", "camera"),
        ("sensor", "frame_rate"),
        ("sensor", "memory"),
        ("sensor", "events_waiting"),
        ("sensor", "events_dropped"),
        ("sensor", "frames_dropped"),
    }
    assert {key for key, state in states.items() if state["state"] in {"unknown", "unavailable"}} <= {
        ("button", "restart"),
        ("event", "face"),  # Home Assistant may have come after the first event
    }
    assert states["sensor", "dominant_emotion"]["state"] in LABELS
    assert states["binary_sensor", "occupancy"]["state"] == "on"
    assert states["binary_sensor", "camera_problem"]["state"] == "off"


def test_score_sensors_are_disabled_and_triggers_are_offered(setup: Setup) -> None:
    device = setup.device("fer-edge kitchen")
    entities = setup.assistant.ask("config/entity_registry/list")
    disabled = {entity["entity_id"]: entity["disabled_by"] for entity in entities if "_score_" in entity["entity_id"]}
    assert disabled == {f"sensor.fer_edge_kitchen_score_{label}": "integration" for label in LABELS}
    triggers = setup.assistant.ask("device_automation/trigger/list", device_id=device["id"])
    offered = {(trigger["subtype"], trigger["type"]) for trigger in triggers if trigger["domain"] == "mqtt"}
    assert offered == {("face", "appeared"), *(("face", f"became {label}") for label in LABELS)}


def test_name_and_area_may_be_any_text(setup: Setup) -> None:
    info = Info(version="1", model="m", model_sha256="0", labels=("a", 'say "hi" }}', "müde"))
    description = DeviceDescription(display_name="Kamera Küche", suggested_area="Küche", has_temperature=False)
    message = discovery_message(MessageFactory("kueche.2", "haus/küche"), info, description)
    setup.subscriber.publish(message.topic, message.body().decode(), retain=True)
    wait_for(lambda: "Kamera Küche" in str(setup.assistant.ask("config/device_registry/list")), "the device")
    area = setup.device("Kamera Küche")["area_id"]
    names = {area["area_id"]: area["name"] for area in setup.assistant.ask("config/area_registry/list")}
    assert names[area] == "Küche"
    setup.subscriber.publish(message.topic, "", retain=True)
    wait_for(lambda: "Kamera Küche" not in str(setup.assistant.ask("config/device_registry/list")), "the removal")


def test_numbers_change_the_settings(setup: Setup) -> None:
    setup.assistant.call("number.set_value", entity_id="number.fer_edge_kitchen_emotion_margin", value=0.15)
    setup.until("number.fer_edge_kitchen_emotion_margin", "0.15")
    setup.assistant.call("number.set_value", entity_id="number.fer_edge_kitchen_emotion_hold_time", value=2)
    setup.until("number.fer_edge_kitchen_emotion_hold_time", "2.0")
    published = setup.subscriber.payloads
    wait_for(lambda: b'{"margin":0.15,"hold_s":2.0}' in published("fer-edge/kitchen/settings/state"), "the settings")


def test_button_restarts_the_node(setup: Setup) -> None:
    topic = "fer-edge/kitchen/availability"
    setup.assistant.call("number.set_value", entity_id="number.fer_edge_kitchen_emotion_margin", value=0.3)
    setup.until("number.fer_edge_kitchen_emotion_margin", "0.3")
    setup.assistant.call("button.press", entity_id="button.fer_edge_kitchen_restart")
    wait_for(lambda: setup.subscriber.payloads(topic)[-2:] == [b"offline", b"online"], "the restart")
    setup.until("sensor.fer_edge_kitchen_faces", "1")
    # What was set before is still there.
    setup.until("number.fer_edge_kitchen_emotion_margin", "0.3")


def test_switch_makes_faces_unavailable(setup: Setup) -> None:
    setup.assistant.call("switch.turn_off", entity_id="switch.fer_edge_kitchen_enabled")
    for entity in ("sensor.fer_edge_kitchen_dominant_emotion", "binary_sensor.fer_edge_kitchen_occupancy"):
        setup.until(entity, "unavailable")
    setup.until("switch.fer_edge_kitchen_enabled", "off")
    setup.until("binary_sensor.fer_edge_kitchen_camera_problem", "off")
    setup.assistant.call("switch.turn_on", entity_id="switch.fer_edge_kitchen_enabled")
    setup.until("binary_sensor.fer_edge_kitchen_occupancy", "on")


def test_card_shows_entities_that_exist(setup: Setup) -> None:
    used = set(re.findall(r"entity: (\S+)", (DOCS / "home-assistant" / "card.yaml").read_text()))
    assert len(used) >= 6
    assert used <= setup.assistant.states().keys()


def test_automations_run_on_fresh_events_alone(setup: Setup) -> None:
    """Test the blueprint, the automation of the manual and a device trigger."""

    def publishing(name: str) -> str:
        return f'- action: mqtt.publish\n  data:\n    topic: test/{name}\n    payload: "ran"\n'

    manual = (DOCS / "home-assistant.md").read_text()
    found = re.search(r"```yaml\n(triggers:.*?actions:\n)", manual, re.DOTALL)
    assert found
    blueprint = setup.assistant.add_blueprint(DOCS / "home-assistant" / "expression_blueprint.yaml")
    device = setup.device("fer-edge kitchen")["id"]
    inputs = "    face: event.fer_edge_kitchen_face\n    emotions: [sad, happy]\n    pause: 0\n    actions:\n"
    setup.assistant.add_automations(
        {
            "manual": found[1] + publishing("manual") + "mode: single",
            "blueprint": f"use_blueprint:\n  path: {blueprint}\n  input:\n{inputs}"
            + "".join(f"      {line}\n" for line in publishing("blueprint").splitlines()),
            "trigger": f"triggers:\n- trigger: device\n  domain: mqtt\n  device_id: {device}\n  type: became happy\n"
            f"  subtype: face\nmode: queued\nactions:\n{publishing('trigger')}",
        }
    )

    def count(name: str) -> int:
        return len(setup.subscriber.payloads(f"test/{name}"))

    now = time.time()
    for number, (age, emotion) in enumerate([(8 * 3600, "happy"), (0, "angry"), (-8 * 3600, "happy"), (0, "happy")]):
        publish_event(setup.subscriber, now - age, emotion, number)
    for name in ("manual", "blueprint", "trigger"):
        wait_for(lambda name=name: count(name) >= 1, f"the automation {name}")  # type: ignore[misc]
    publish_event(setup.subscriber, now, "happy", 5, "end")
    publish_event(setup.subscriber, time.time(), "happy", 6)
    for name in ("manual", "blueprint"):
        wait_for(lambda name=name: count(name) >= 2, f"the automation {name} again")  # type: ignore[misc]
    # A device trigger has no guard: it is for the automation to have one.
    wait_for(lambda: count("trigger") == 4, "the device trigger")
    assert (count("manual"), count("blueprint")) == (2, 2)


def test_home_assistant_has_logged_no_problem(setup: Setup) -> None:
    problems = [line for line in setup.assistant.log.splitlines() if re.search("mqtt|fer.edge|automation", line)]
    # Some releases remove a device twice.
    assert [line for line in problems if "No device components to cleanup" not in line] == []


def publish_event(subscriber: Subscriber, at: float, emotion: str, number: int, kind: str = "update") -> None:
    event = Event(
        event_type="end" if kind == "end" else "update",
        id=f"s-{number}",
        time=at,
        emotion=emotion,
        score=0.9,
        scores={emotion: 0.9},
        previous="neutral",
        box=(0, 0, 1, 1),
        duration_s=1,
        model="edge",
    )
    subscriber.publish("fer-edge/kitchen/event", msgspec.json.encode(event).decode())
