"""Give a node the permissions that docs/how-to/broker.md lists, or fewer, at a real Mosquitto."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message
from fer_edge_device.mqtt.maintenance import forget_node
from fer_edge_device.mqtt.sink import MqttSink
from tests.device.brokers import USER, Mosquitto, Subscriber, wait_for
from tests.device.mqtt.helpers import INFO, event

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from fer_edge_device.mqtt.commands import SwitchCommand

KITCHEN = MessageFactory("kitchen")
ANNOUNCEMENT = discovery_message(KITCHEN, INFO, DeviceDescription())
(RULES,) = re.findall(
    r"^```text\n(user camera\n.*?)^```",
    (Path(__file__).parents[3] / "docs/how-to/broker.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)


@contextmanager
def allowing(tmp_path: Path, rules: str) -> Iterator[Mosquitto]:
    file = tmp_path / "rules"
    file.write_text(rules)
    file.chmod(0o600)
    with Mosquitto(tmp_path / "broker", f"acl_file {file}", password=True) as broker:
        yield broker


@contextmanager
def kitchen(tmp_path: Path, settings: MqttSettings, commands: list[SwitchCommand]) -> Iterator[MqttSink]:
    def obey(command: SwitchCommand) -> bool:
        commands.append(command)
        return True

    outbox = OutboxSettings(path=str(tmp_path / "outbox.sqlite"))
    sink = MqttSink(KITCHEN, settings, outbox, on_command=obey, backoff=(0.02, 0.2), retry=(0.02, 0.2))
    try:
        sink.publish(KITCHEN.info(INFO), ANNOUNCEMENT, KITCHEN.availability("online"))
        sink.publish(KITCHEN.event(event(1)))
        yield sink
    finally:
        sink.close()


def settings_for(broker: Mosquitto, password_file: str) -> MqttSettings:
    url = f"mqtt://{USER}@localhost:{broker.port}"
    return MqttSettings(url=url, password_file=password_file, ha_discovery=True)


def test_listed_permissions_suffice(tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture) -> None:
    commands: list[SwitchCommand] = []
    with allowing(tmp_path, RULES) as broker:
        settings = settings_for(broker, password_file)
        subscriber = Subscriber(password=True)
        subscriber.connect(broker.port, "fer-edge/kitchen/#")
        with kitchen(tmp_path, settings, commands) as sink:
            wait_for(lambda: sink.queued == 0, "a connection")
            wait_for(lambda: subscriber.payloads(KITCHEN.topic("availability")), "online")
            subscriber.publish(KITCHEN.topic("enabled/set"), "OFF", retain=True)
            wait_for(lambda: commands, "the command")
            wait_for(lambda: b"" in subscriber.payloads(KITCHEN.topic("enabled/set")), "its removal")
        forget_node(settings, KITCHEN)
        subscriber.drop()
    assert "refuse" not in caplog.text


def test_advice_after_a_refusal_names_the_topic(
    tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    rules = "\n".join(line for line in RULES.splitlines() if "homeassistant/device" not in line) + "\n"
    with allowing(tmp_path, rules) as broker:
        settings = settings_for(broker, password_file)
        advice = f"allow the user {USER} to publish to {ANNOUNCEMENT.topic} on the broker"
        with kitchen(tmp_path, settings, []):
            wait_for(lambda: advice in caplog.text, "the advice")
    assert caplog.text.count("refuses messages") == 1


def test_refused_topics_are_listed_in_one_line(
    tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        allowing(tmp_path, f"user {USER}\ntopic write fer-edge/kitchen/event\n") as broker,
        kitchen(tmp_path, settings_for(broker, password_file), []) as sink,
    ):
        sink.publish(KITCHEN.camera("online"))
        wait_for(lambda: "refuses messages" in caplog.text, "the advice")
        wait_for(lambda: sink.queued == 0, "the event")
    (line,) = [line for line in caplog.messages if "refuse" in line]
    topics = {KITCHEN.topic(kind) for kind in ("info", "camera", "availability")} | {ANNOUNCEMENT.topic}
    assert topics <= set(re.split("[, ]+", line))
