"""Test publishing to a real Mosquitto that starts, stops, hangs or speaks an older protocol version."""

from __future__ import annotations

import logging
import re
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import Stats
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message
from fer_edge_device.mqtt.maintenance import check_login
from fer_edge_device.mqtt.outbox import Outbox
from tests.device.brokers import Gate, Mosquitto, Subscriber, subscribing, wait_for
from tests.device.mqtt.helpers import INFO, MESSAGES, event, sending, times

if TYPE_CHECKING:
    from fer_edge_device.mqtt.commands import SwitchCommand

STATS = Stats(time=0, fps=1, stages={}, skipped=0, dropped=0, temp_c=None, throttled=None, rss_mb=1, queued=0)


def test_delivers_messages_and_offline_last(broker: Mosquitto, tmp_path: Path) -> None:
    with subscribing(broker.port) as subscriber:
        with sending(tmp_path, broker.port) as sink:
            sink.publish(MESSAGES.info(INFO))
            wait_for(lambda: subscriber.payloads(MESSAGES.topic("info")), "a connection")
            for number in range(30):
                sink.publish(MESSAGES.event(event(number)))
            sink.publish(MESSAGES.stats(STATS))
            sink.publish(MESSAGES.enabled(enabled=True))
            sink.publish(MESSAGES.availability("offline"))
            sink.publish(MESSAGES.event(event(30)))
        wait_for(lambda: b"offline" in subscriber.payloads(MESSAGES.topic("availability")), "offline")
        assert times(subscriber.received) == list(range(31))
        assert subscriber.payloads(MESSAGES.topic("stats")) == [msgspec.json.encode(STATS)]
        assert subscriber.payloads(MESSAGES.topic("availability")) == [b"online", b"offline"]
        assert subscriber.received[-1].topic == MESSAGES.topic("availability")
        assert (sink.queued, sink.dropped) == (0, 0)
    with subscribing(broker.port) as late:
        wait_for(lambda: len(late.received) >= 4, "what is retained")
        assert {received.topic: received.payload for received in late.received if received.retained} == {
            MESSAGES.topic("availability"): b"offline",
            MESSAGES.topic("info"): msgspec.json.encode(INFO),
            MESSAGES.topic("stats"): msgspec.json.encode(STATS),
            MESSAGES.topic("enabled/state"): b"ON",
        }


def test_sends_waiting_messages_to_a_broker_that_comes_later(
    gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path / "broker") as broker, sending(tmp_path, gate.port) as sink:
        for number in range(5):
            sink.publish(MESSAGES.event(event(number)))
        sink.publish(MESSAGES.camera("stalled"))
        sink.publish(MESSAGES.camera("online"))
        sink.publish(MESSAGES.stats(STATS))
        wait_for(lambda: gate.visits >= 10, "attempts")
        assert sink.queued == 5
        with subscribing(broker.port) as subscriber:
            gate.target = broker.port
            wait_for(lambda: sink.queued == 0, "the outbox to be empty")
            assert times(subscriber.received) == list(range(5))
            assert [message.topic for message in subscriber.received[:3]] == [
                MESSAGES.topic("camera"),
                MESSAGES.topic("stats"),
                MESSAGES.topic("availability"),
            ]
            assert subscriber.payloads(MESSAGES.topic("camera")) == [b"online"]
    complaints = [record for record in caplog.records if "closed the connection without an answer" in record.message]
    assert len(complaints) == 1


def test_publish_never_waits_for_a_silent_broker(gate: Gate, tmp_path: Path) -> None:
    gate.silent = True
    with sending(tmp_path, gate.port) as sink:
        wait_for(lambda: gate.visits, "a connection")
        for _ in range(10_000):
            sink.publish(MESSAGES.camera("online"))
        sink.publish(MESSAGES.event(event(1)))
        sink.close(timeout=0.1)
        assert gate.visits == 1


def mqtt_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mqtt"]


def test_close_ends_the_thread_when_the_broker_falls_silent(gate: Gate, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        gate.target = broker.port
        with sending(tmp_path, gate.port) as sink:
            wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "a connection")
            broker.freeze()
            sink.publish(MESSAGES.event(event(1)))
            sink.close(timeout=1)
            wait_for(lambda: not mqtt_threads(), "the thread to end")
            assert sink.queued == 1
            broker.kill()


def test_close_does_not_wait_for_a_name_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lookup_started, answer = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        lookup_started.set()
        assert answer.wait(60)
        return find(*_, **__)  # type: ignore[arg-type,return-value]

    find = socket.getaddrinfo
    with Gate() as gate:
        gate.silent = True
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        with sending(tmp_path, gate.port) as sink:
            assert lookup_started.wait(60)
            sink.publish(MESSAGES.event(event(1)))
            sink.close(timeout=0.1)
            assert "the system is still trying to connect; not waiting for it" in caplog.text
        outbox = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
        answer.set()
        wait_for(lambda: not mqtt_threads(), "the thread to end")
        assert len(outbox) == 1
        outbox.close()
    assert "events cannot be stored" not in caplog.text


def test_the_next_run_sends_unsent_events(broker: Mosquitto, gate: Gate, tmp_path: Path) -> None:
    with sending(tmp_path, gate.port) as sink:
        sink.publish(MESSAGES.event(event(1)))
    with subscribing(broker.port) as subscriber, sending(tmp_path, broker.port) as sink:
        sink.publish(MESSAGES.event(event(2)))
        wait_for(lambda: len(times(subscriber.received)) == 2, "both events")
        assert times(subscriber.received) == [1, 2]


def test_waits_longer_after_each_failure_at_random(
    gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    waits: list[float] = []

    def count() -> int:
        waits[:] = [float(wait) for wait in re.findall(r"next attempt in ([\d.]+) s", caplog.text)]
        return len(waits)

    with sending(tmp_path, gate.port, backoff=(0.01, 0.3)):
        wait_for(lambda: count() >= 25 and max(waits) > 0.1, "attempts, a long wait among them")
    assert all(0.01 <= wait <= 0.3 for wait in waits)
    assert len(set(waits)) > 5
    assert waits[0] <= 0.03


def test_leaks_nothing_over_hundreds_of_attempts(tmp_path: Path) -> None:
    def resources() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    samples = []
    with Gate() as dead, sending(tmp_path, dead.port, backoff=(0.001, 0.002)):
        for goal in range(100, 701, 300):
            while dead.visits < goal:
                time.sleep(0.01)
            # The minimum over many visits, because the gate has its own threads and sockets for each.
            samples_of_goal = [resources()]
            while dead.visits < goal + 50:
                samples_of_goal.append(resources())
            samples.append(tuple(map(min, zip(*samples_of_goal, strict=True))))
    assert samples[-1][0] <= samples[0][0]
    assert samples[-1][1] <= samples[0][1]


def test_falls_back_to_mqtt_3_1_1(
    broker: Mosquitto, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gate.refuses_version_5, gate.target = True, broker.port
    with subscribing(broker.port) as subscriber, sending(tmp_path, gate.port) as sink:
        sink.publish(MESSAGES.event(event(1)))
        wait_for(lambda: times(subscriber.received) == [1], "the event")
    assert "(MQTT 3.1.1)" in caplog.text
    assert check_login(MqttSettings(url=f"mqtt://localhost:{gate.port}"), "hall").endswith(
        "(MQTT 3.1.1), logged in without a user"
    )


def test_sends_any_number_of_messages_that_are_not_acknowledged(broker: Mosquitto, tmp_path: Path) -> None:
    topic = MESSAGES.topic("stats")
    with subscribing(broker.port) as subscriber, sending(tmp_path, broker.port) as sink:
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "a connection")
        for count in range(1, 51):
            sink.publish(MESSAGES.stats(STATS))
            wait_for(lambda count=count: len(subscriber.payloads(topic)) == count, "a message")  # type: ignore[misc]
        sink.publish(MESSAGES.camera("online"))
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("camera")), "another message")


def test_obeys_the_switch_and_ignores_unknown_values(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands: list[SwitchCommand] = []

    def obey(command: SwitchCommand) -> bool:
        commands.append(command)
        return True

    switch = MESSAGES.topic("enabled/set")
    with subscribing(broker.port) as subscriber:
        subscriber.publish(switch, "OFF", retain=True)
        with sending(tmp_path, broker.port, on_command=obey):
            wait_for(lambda: commands == [(False, True)], "the retained value")
            for value in ("Maybe", "ON", "false", "1", "0", "True"):
                subscriber.publish(switch, value)
            subscriber.publish(switch, "", retain=True)
            live = [(on, False) for on in (True, False, True, False, True)]
            wait_for(lambda: commands == [(False, True), *live], "the values")
    assert caplog.text.count("'Maybe' is neither ON nor OFF") == 1


def retained_at(broker: Mosquitto, topic: str) -> list[bytes]:
    """Return what a late subscriber gets."""
    with subscribing(broker.port) as late:
        late.publish("marker", "")
        wait_for(lambda: late.payloads("marker"), "the end of what is retained")
        return late.payloads(topic)


def test_removes_a_retained_command_that_makes_no_sense(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    switch = MESSAGES.topic("enabled/set")
    for value in ("maybe", " "):
        with subscribing(broker.port) as subscriber:
            subscriber.publish(switch, value, retain=True)
        with sending(tmp_path, broker.port, on_command=lambda _: True):
            wait_for(lambda: not retained_at(broker, switch), "its removal")
    assert caplog.text.count("is neither ON nor OFF") == 2


@pytest.mark.parametrize("retained_before", [True, False])
def test_removes_a_retained_command_once_it_is_done_with(
    broker: Mosquitto, tmp_path: Path, *, retained_before: bool
) -> None:
    done = threading.Event()
    switch, camera = MESSAGES.topic("enabled/set"), MESSAGES.topic("camera")

    with subscribing(broker.port) as subscriber:
        if retained_before:
            subscriber.publish(switch, "OFF", retain=True)
        with sending(tmp_path, broker.port, on_command=lambda _: done.is_set()) as sink:
            if not retained_before:
                wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "a connection")
                subscriber.publish(switch, "OFF", retain=True)
            sink.publish(MESSAGES.camera("online"))
            wait_for(lambda: subscriber.payloads(camera), "a message")
            assert retained_at(broker, switch) == [b"OFF"], (
                "the switch could not be saved, so the broker must keep the command"
            )
            done.set()
            subscriber.publish(switch, "OFF", retain=True)
            wait_for(lambda: not retained_at(broker, switch), "the command to be removed")


def test_whoever_may_publish_cannot_fill_the_log(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    obeyed = threading.Event()

    def obey(_: SwitchCommand) -> bool:
        obeyed.set()
        return True

    with subscribing(broker.port) as subscriber, sending(tmp_path, broker.port, on_command=obey):
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "a connection")
        for number in range(300):
            subscriber.publish(MESSAGES.topic("enabled/set"), f"nonsense {number}")
        subscriber.publish(MESSAGES.topic("enabled/set"), "OFF")
        assert obeyed.wait(60)
    assert caplog.text.count("is neither ON nor OFF") == 10
    assert caplog.messages[-1] == "290 more wrong messages were not logged"


def test_does_not_receive_oversized_messages(broker: Mosquitto, tmp_path: Path) -> None:
    commands: list[SwitchCommand] = []

    def obey(command: SwitchCommand) -> bool:
        commands.append(command)
        return True

    with subscribing(broker.port) as subscriber:
        subscriber.publish(MESSAGES.topic("enabled/set"), " " * 1_000_000 + "ON", retain=True)
        with sending(tmp_path, broker.port, on_command=obey):
            wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")), "a connection")
            subscriber.publish(MESSAGES.topic("enabled/set"), "OFF", retain=True)
            wait_for(lambda: commands, "a value")
    assert commands == [(False, False)]


def is_online_after(losses: int, subscriber: Subscriber) -> bool:
    """Return whether the node has lost so many connections, and has got another one."""
    said = subscriber.payloads(MESSAGES.topic("availability"))
    return said.count(b"offline") == losses and said[-1] == b"online"


def test_goes_on_after_a_retained_message_that_an_old_broker_sends_whatever_its_length(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands: list[SwitchCommand] = []

    def obey(command: SwitchCommand) -> bool:
        commands.append(command)
        return True

    switch = MESSAGES.topic("enabled/set")
    with subscribing(broker.port) as subscriber:
        subscriber.publish(switch, "x" * 1_000_000, retain=True)
        subscriber.publish("homeassistant/status", "x" * 1_000_000, retain=True)
        with sending(tmp_path, broker.port, on_command=obey, ha_discovery=True, version="3.1.1") as sink:
            sink.publish(MESSAGES.event(event(1)))
            wait_for(lambda: "is ignored from now on" in caplog.text, "both messages")
            wait_for(lambda: is_online_after(2, subscriber), "the third connection")
            subscriber.publish(switch, "OFF")
            wait_for(lambda: commands == [(False, False)], "a command")
            wait_for(
                lambda: 1 in times(subscriber.received), "an event"
            )  # twice, if a connection ended before its answer
    assert f"more than 65,536 bytes, a retained message to {switch}, which is removed" in caplog.text
    assert "mosquitto_pub --retain --null-message --topic homeassistant/status" in caplog.text
    assert caplog.text.count("more than 65,536 bytes") == 2
    assert not retained_at(broker, switch)
    assert len(retained_at(broker, "homeassistant/status")) == 1, "it is not ours to remove"


def test_goes_on_after_a_live_message_that_is_too_large(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    commands: list[SwitchCommand] = []

    def obey(command: SwitchCommand) -> bool:
        commands.append(command)
        return True

    switch = MESSAGES.topic("enabled/set")
    with (
        subscribing(broker.port) as subscriber,
        sending(tmp_path, broker.port, on_command=obey, version="3.1.1"),
    ):
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability")) == [b"online"], "a connection")
        subscriber.publish(switch, "x" * 100_000)
        wait_for(lambda: is_online_after(1, subscriber), "another connection")
        subscriber.publish(switch, "OFF")
        wait_for(lambda: commands == [(False, False)], "a command")
    assert f"more than 65,536 bytes, a message to {switch}; find out who publishes" in caplog.text


def test_announces_the_node_again_when_home_assistant_starts(broker: Mosquitto, tmp_path: Path) -> None:
    announcement = discovery_message(MESSAGES, INFO, DeviceDescription())
    with subscribing(broker.port) as subscriber:
        subscriber.publish("homeassistant/status", "online", retain=True)
        with sending(tmp_path, broker.port, ha_discovery=True) as sink:
            sink.publish(announcement)
            wait_for(lambda: subscriber.payloads(announcement.topic), "the announcement")
            subscriber.publish("homeassistant/status", "offline")
            subscriber.publish("homeassistant/status", "online")
            wait_for(lambda: len(subscriber.payloads(announcement.topic)) == 2, "the announcement again")
            assert set(subscriber.payloads(announcement.topic)) == {announcement.body()}


def test_warns_about_two_devices_of_one_name(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sending(tmp_path / "a", broker.port), sending(tmp_path / "b", broker.port):
        wait_for(lambda: "does another device have the same node name?" in caplog.text, "the warning")
