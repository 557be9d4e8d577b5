from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge.errors import BrokerError, FerEdgeError
from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message
from fer_edge_device.mqtt.maintenance import check_login, forget_node
from fer_edge_device.mqtt.sink import MqttSink
from tests.device.brokers import Mosquitto, subscribing, wait_for
from tests.device.mqtt.helpers import INFO, MESSAGES, sending

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Cli


def test_prefixes_separate_nodes_of_the_same_name(broker: Mosquitto, tmp_path: Path) -> None:
    other_messages = MessageFactory("hall", "site/2")
    settings = MqttSettings(url=f"mqtt://localhost:{broker.port}", topic_prefix="site/2")
    with subscribing(broker.port) as subscriber, sending(tmp_path, broker.port):
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "the first")
        other_sink = MqttSink(other_messages, settings, OutboxSettings(path=str(tmp_path / "other.sqlite")))
        other_sink.publish(other_messages.availability("online"))
        wait_for(lambda: subscriber.payloads(other_messages.topic("availability")), "the second")
        assert subscriber.payloads(MESSAGES.topic("availability")) == [b"online"]
        check_login(settings, "hall")
        forget_node(settings, other_messages, force=True)
        assert subscriber.payloads(MESSAGES.topic("availability")) == [b"online"]
        other_sink.close()


def test_forget_removes_the_node_from_the_broker_and_from_home_assistant(
    broker: Mosquitto, tmp_path: Path, cli: Cli
) -> None:
    with sending(tmp_path, broker.port) as sink:
        sink.publish(MESSAGES.info(INFO))
        sink.publish(discovery_message(MESSAGES, INFO, DeviceDescription()))
    url = f"mqtt://localhost:{broker.port}"
    message = cli("mqtt", "forget", "--mqtt", url, "--node", "hall").stderr
    assert message == f"hall is forgotten at {url} (MQTT 5)\n"
    with subscribing(broker.port) as subscriber:
        subscriber.publish("done", "")
        wait_for(lambda: subscriber.payloads("done"), "an echo")
        assert [received for received in subscriber.received if received.retained] == []
    broker.kill()
    failed = cli("mqtt", "forget", "--mqtt", url, "--node", "hall", status=1).stderr
    assert failed == f"fer-edge: {url}: refused the connection; is a broker running there?\n"
    assert "mqtt.url" in cli("mqtt", "forget", "--node", "hall", status=2).stderr
    assert issubclass(BrokerError, FerEdgeError)


def test_forget_says_that_nothing_is_known_of_a_node(broker: Mosquitto, cli: Cli) -> None:
    command = ("mqtt", "forget", "--mqtt", f"mqtt://localhost:{broker.port}", "--node", "hal")
    message = cli(*command, status=2).stderr
    assert message.startswith(
        f"fer-edge: nothing is known of hal at mqtt://localhost:{broker.port} (MQTT 5): check --node"
    )
    assert "hal is forgotten" in cli(*command, "--force").stderr


def test_forget_removes_what_is_too_large_to_be_read(broker: Mosquitto) -> None:
    settings = MqttSettings(url=f"mqtt://localhost:{broker.port}", version="3.1.1")
    with subscribing(broker.port) as subscriber:
        subscriber.publish(MESSAGES.topic("enabled/set"), "x" * 100_000, retain=True)
        forget_node(settings, MESSAGES)
        wait_for(lambda: b"" in subscriber.payloads(MESSAGES.topic("enabled/set")), "the removal")


def test_forget_refuses_a_node_that_is_running(broker: Mosquitto, tmp_path: Path, cli: Cli) -> None:
    url = f"mqtt://localhost:{broker.port}"
    command = ("mqtt", "forget", "--mqtt", url, "--node", "hall")
    with sending(tmp_path, broker.port), subscribing(broker.port) as subscriber:
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "a connection")
        refused = cli(*command, status=2).stderr
        assert "hall is online at" in refused
        assert "stop its runner first" in refused
        assert subscriber.payloads(MESSAGES.topic("availability")) == [b"online"]
        assert "hall is forgotten" in cli(*command, "--force").stderr
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability"))[1:], "the removal")
        assert subscriber.payloads(MESSAGES.topic("availability"))[1] == b""


def test_names_that_differ_in_dots_and_underscores_are_forgotten_apart(broker: Mosquitto) -> None:
    settings = MqttSettings(url=f"mqtt://localhost:{broker.port}")
    nodes = [MessageFactory(name) for name in ("pi.hall", "pi_hall", "pi_2ehall")]
    with subscribing(broker.port) as subscriber:
        for node in nodes:
            announcement = discovery_message(node, INFO, DeviceDescription())
            subscriber.publish(announcement.topic, "announced", retain=True)
        forget_node(settings, nodes[0])
    with subscribing(broker.port) as late:
        late.publish("done", "")
        wait_for(lambda: late.payloads("done"), "an echo")
        assert {message.topic for message in late.received if message.retained} == {
            discovery_message(node, INFO, DeviceDescription()).topic for node in nodes[1:]
        }
