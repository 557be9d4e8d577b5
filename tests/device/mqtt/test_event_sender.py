"""Test sending of events to a real Mosquitto that limits, refuses or disconnects."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.mqtt.outbox import Outbox
from tests.device.brokers import Gate, Mosquitto, subscribing, wait_for
from tests.device.mqtt.helpers import INFO, MESSAGES, event, new_event, sending, times

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_limits_the_rate_of_events(broker: Mosquitto, gate: Gate, tmp_path: Path) -> None:
    with subscribing(broker.port) as subscriber, sending(tmp_path, gate.port, rate=20) as sink:
        for number in range(11):
            sink.publish(MESSAGES.event(event(number)))
        began = time.monotonic()
        gate.target = broker.port
        wait_for(lambda: len(times(subscriber.received)) == 11, "the events")
        assert time.monotonic() - began >= 10 / 20


@contextmanager
def restricted(tmp_path: Path, *rules: str) -> Iterator[Mosquitto]:
    """Run a broker where everybody may subscribe but publish only what the rules allow."""
    file = tmp_path / "rules"
    file.write_text("\n".join(["topic read #", *rules, ""]))
    file.chmod(0o600)
    with Mosquitto(tmp_path / "broker", f"acl_file {file}") as broker:
        yield broker


def test_drops_refused_events_one_by_one_and_warns_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    advice = "refuses {} (Not authorized); allow anonymous clients to publish to fer-edge/hall/{} on the broker"
    with (
        restricted(tmp_path, f"topic write {MESSAGES.topic('availability')}") as broker,
        sending(tmp_path, broker.port) as sink,
    ):
        for number in range(20):
            sink.publish(MESSAGES.event(event(number)))
        wait_for(lambda: sink.dropped >= 2, "some to be given up")
        sink.publish(MESSAGES.info(INFO))
        wait_for(lambda: advice.format("messages", "info") in caplog.text, "the other refusal")
        with subscribing(broker.port) as subscriber:
            with (tmp_path / "rules").open("a") as file:
                file.write(f"topic write {MESSAGES.topic('event')}\n")
            broker.reload()
            wait_for(lambda: sink.queued == 0, "the others to leave the outbox")
            wait_for(lambda: times(subscriber.received) == list(range(sink.dropped, 20)), "the others")
        assert sink.dropped < 20
    assert caplog.text.count("refuses events") == 1
    assert f"{advice.format('events', 'event')}. Each event is sent up to 5 times, then dropped" in caplog.text


def test_refused_events_wait_for_the_next_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        restricted(tmp_path, f"topic write {MESSAGES.topic('availability')}") as broker,
        sending(tmp_path, broker.port, backoff=(60, 60)) as sink,
    ):
        sink.publish(MESSAGES.event(event(1)))
        wait_for(lambda: "refuses events" in caplog.text, "the refusal")
        sink.close()
        assert (sink.queued, sink.dropped) == (1, 0)


def test_events_of_an_earlier_node_name_do_not_delay_others(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
    for _ in range(30):
        outbox.put([new_event(b"", "fer-edge/cellar/event")])
    outbox.close()
    with restricted(tmp_path, "topic write fer-edge/hall/#") as broker, subscribing(broker.port) as subscriber:
        with sending(tmp_path, broker.port, backoff=(60, 60)) as sink:
            sink.publish(MESSAGES.event(event(1)))
            wait_for(lambda: times(subscriber.received) == [1], "the event")
        assert (sink.queued, sink.dropped) == (0, 30)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_drops_the_event_that_makes_the_broker_close_the_connection(
    version: str, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Mosquitto(tmp_path / "broker", "max_packet_size 1000") as broker,
        sending(tmp_path, gate.port) as sink,
        subscribing(broker.port) as subscriber,
    ):
        for number, track in enumerate(["s-1", "s-1", "x" * 1000, "s-1", "s-1"]):
            sink.publish(MESSAGES.event(event(number, track)))
        gate.refuses_version_5, gate.target = version == "3.1.1", broker.port
        wait_for(lambda: sink.queued == 0, "the outbox to be empty")
        wait_for(lambda: list(dict.fromkeys(times(subscriber.received))) == [0, 1, 3, 4], "the others")
        assert sink.dropped == 1
    assert caplog.text.count("closed the connection 5 times at the same event") == 1
    assert caplog.text.count("connection lost (closed by the broker)") <= 1
