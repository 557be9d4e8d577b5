"""Test which of two topics an event goes to, and in which order, with a real Mosquitto."""

from __future__ import annotations

import os
import select
import sqlite3
import threading
from typing import TYPE_CHECKING

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.messages import Event
from fer_edge_device.mqtt.home_assistant import DeviceDescription, discovery_message
from fer_edge_device.mqtt.outbox import Outbox
from fer_edge_device.sinks import JsonLinesSink
from tests.device.brokers import TIMEOUT, Gate, Mosquitto, subscribing, wait_for
from tests.device.mqtt.helpers import INFO, MESSAGES, event, new_event, sending, times

if TYPE_CHECKING:
    from pathlib import Path

    from tests.device.brokers import Subscriber

HOURS = 3600.0


def fill(tmp_path: Path, count: int, *, hours_ago: float = 0.0, earlier_boot: bool = False) -> None:
    """Leave events in the outbox, as an earlier run does whose broker is away."""
    path = tmp_path / "outbox.sqlite"
    outbox = Outbox(path, OutboxSettings(path=str(path)))
    outbox.begin_run(goes_on=False)
    outbox.put([new_event(msgspec.json.encode(event(number))) for number in range(count)])
    outbox.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE events SET time = time - ?", (hours_ago * HOURS,))
        if earlier_boot:
            database.execute("UPDATE boot SET id = 'another'")
    database.close()


def kinds(subscriber: Subscriber) -> list[str]:
    topics = [received.topic.removeprefix("fer-edge/hall/") for received in list(subscriber.received)]
    return [topic for topic in topics if topic.startswith("event")]


def test_old_events_go_to_the_backlog_in_order_behind_fresh_ones(broker: Mosquitto, gate: Gate, tmp_path: Path) -> None:
    fill(tmp_path, 300, hours_ago=8)
    with subscribing(broker.port) as subscriber, sending(tmp_path, gate.port, rate=100, event_max_age_s=60) as sink:
        for number in range(1000, 1005):
            sink.publish(MESSAGES.event(event(number)))
        sink.wait_until_stored()
        gate.target = broker.port
        wait_for(lambda: "event/backlog" in kinds(subscriber), "the backlog")
        sink.publish(MESSAGES.event(event(1005)))
        wait_for(lambda: sink.queued == 0, "the outbox to be empty")
        wait_for(lambda: len(kinds(subscriber)) == 306, "every event")
    assert times(subscriber.received) == list(range(1000, 1006))
    assert times(subscriber.received, kind="event/backlog") == list(range(300))
    assert kinds(subscriber)[:5] == ["event"] * 5
    assert kinds(subscriber).index("event", 5) < 200, "a fresh event does not wait for the backlog"
    assert kinds(subscriber)[-1] == "event/backlog"


def test_event_that_grows_old_while_the_broker_is_away_goes_to_the_backlog(
    broker: Mosquitto, gate: Gate, tmp_path: Path
) -> None:
    with subscribing(broker.port) as subscriber, sending(tmp_path, gate.port, event_max_age_s=1) as sink:
        sink.publish(MESSAGES.event(event(1)))
        sink.wait_until_stored()
        wait_for(lambda: not sink._outbox.fresh(0, 1), "a second")
        sink.publish(MESSAGES.event(event(2)))
        gate.target = broker.port
        wait_for(lambda: sink.queued == 0, "the outbox to be empty")
        wait_for(lambda: times(subscriber.received, kind="event/backlog")[:1] == [1], "the old event")
        assert 1 not in times(subscriber.received)


def test_events_of_an_earlier_boot_are_never_fresh(broker: Mosquitto, tmp_path: Path) -> None:
    fill(tmp_path, 3, earlier_boot=True)
    with subscribing(broker.port) as subscriber, sending(tmp_path, broker.port) as sink:
        sink.publish(MESSAGES.event(event(3)))
        wait_for(lambda: len(kinds(subscriber)) == 4, "every event")
        assert times(subscriber.received, kind="event/backlog") == [0, 1, 2]
        assert times(subscriber.received) == [3]


def test_fresh_events_do_not_wait_for_a_backlog_that_the_broker_refuses(tmp_path: Path) -> None:
    fill(tmp_path, 3, hours_ago=8)
    rules = tmp_path / "rules"
    rules.write_text("topic read #\ntopic write fer-edge/hall/event\ntopic write fer-edge/hall/availability\n")
    rules.chmod(0o600)
    with (
        Mosquitto(tmp_path / "broker", f"acl_file {rules}") as broker,
        subscribing(broker.port) as subscriber,
        sending(tmp_path, broker.port, backoff=(60, 60)) as sink,
    ):
        wait_for(lambda: sink._events._backlog._attempts, "a refusal")
        for number in range(10, 15):
            sink.publish(MESSAGES.event(event(number)))
        wait_for(lambda: times(subscriber.received) == [10, 11, 12, 13, 14], "the fresh events")
        assert (sink.queued >= 3, sink.dropped) == (True, 0)


def test_broker_forgets_a_fresh_event_when_it_is_no_longer_fresh(broker: Mosquitto, tmp_path: Path) -> None:
    expiries: list[tuple[str, int | None]] = []
    subscribed = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = lambda _client, _data, message: expiries.append(
        (message.topic, getattr(message.properties, "MessageExpiryInterval", None))
    )
    fill(tmp_path, 1, hours_ago=8)
    client.connect("localhost", broker.port)
    client.loop_start()
    client.subscribe("fer-edge/hall/event/#", 1)
    assert subscribed.wait(TIMEOUT)
    with sending(tmp_path, broker.port, event_max_age_s=60) as sink:
        sink.publish(MESSAGES.event(event(1)))
        wait_for(lambda: len(expiries) == 2, "both events")
    client.disconnect()
    client.loop_stop()
    by_topic = dict(expiries)
    assert by_topic["fer-edge/hall/event/backlog"] is None
    assert 1 <= (by_topic["fer-edge/hall/event"] or 0) <= 60


def test_home_assistant_does_not_hear_the_backlog() -> None:
    assert "backlog" not in str(discovery_message(MESSAGES, INFO, DeviceDescription()).payload)


def test_tracks_that_a_killed_run_left_open_end_at_the_next_start(broker: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    killed = Outbox(path, OutboxSettings(path=str(path)))
    killed.begin_run(goes_on=False)
    for track, is_end in (("s-1", False), ("s-2", False), ("s-2", True), ("s-3", False)):
        payload = msgspec.json.encode(event(5, track))
        killed.put([new_event(payload, MESSAGES.topic("event"), track, is_end=is_end)])
    killed.put([], seen=9)
    killed.close()  # without an end of s-1 and s-3
    with subscribing(broker.port) as subscriber:
        with sending(tmp_path, broker.port):
            wait_for(lambda: len(kinds(subscriber)) == 6, "every event")
        with sending(tmp_path, broker.port) as sink:
            sink.publish(MESSAGES.event(event(10, "s-4")))
            wait_for(lambda: len(kinds(subscriber)) == 7, "an event of the run after that")
    events = [msgspec.json.decode(payload, type=Event) for payload in subscriber.payloads(MESSAGES.topic("event"))]
    ends = [each for each in events if each.event_type == "end"]
    assert [(end.id, end.time, end.duration_s) for end in ends] == [("s-1", 9, 4), ("s-3", 9, 4)]
    assert [each.id for each in events][-3:] == ["s-1", "s-3", "s-4"]


def test_tracks_go_on_when_only_the_sink_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    for goes_on, expected in ((False, 1), (True, 1), (False, 2)):
        outbox = Outbox(path, OutboxSettings(path=str(path)))
        outbox.begin_run(goes_on=goes_on)
        if not len(outbox):
            outbox.put([new_event(msgspec.json.encode(event(1)), track="s-1", is_end=False)])
        assert len(outbox) == expected
        outbox.close()


def test_a_frame_is_one_transaction_and_does_not_wait_for_the_disk(gate: Gate, tmp_path: Path) -> None:
    statements: list[str] = []
    with sending(tmp_path, gate.port) as sink:
        sink.wait_until_stored()
        database = sink._outbox._file._database
        assert database is not None
        database.set_trace_callback(statements.append)
        stored = threading.Thread(target=sink.wait_until_stored)
        with sink._outbox._lock:  # the disk hangs
            sink.publish(*(MESSAGES.event(event(number)) for number in range(3)))
            stored.start()
            stored.join(0.05)
            assert stored.is_alive()
            assert sink.queued == 3
        stored.join(TIMEOUT)
        assert not stored.is_alive()
        database.set_trace_callback(None)
    writes = [statement for statement in statements if statement.startswith(("INSERT INTO events", "COMMIT"))]
    first = [statement[:6] for statement in writes].index("INSERT")
    assert [statement[:6] for statement in writes[first : first + 4]] == ["INSERT", "INSERT", "INSERT", "COMMIT"]


def test_outbox_is_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "fer-edge"
    folder.mkdir(0o755)
    old = folder / "old.sqlite"
    old.touch(0o644)
    for path in (tmp_path / "new" / "new.sqlite", old):
        outbox = Outbox(path, OutboxSettings())
        outbox.put([new_event(b"")])
        assert path.parent.stat().st_mode & 0o777 == 0o700
        files = list(path.parent.glob(f"{path.name}*"))
        assert len(files) == 2, "the database and its log"
        assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        outbox.close()


def test_a_folder_that_the_user_chose_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "outbox.sqlite"
    Outbox(path, OutboxSettings(path=str(path))).close()
    assert (tmp_path.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o755, 0o600)


def test_a_line_on_standard_output_waits_until_its_event_is_stored(gate: Gate, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    message = MESSAGES.event(event(1))
    with os.fdopen(reader, "rb") as lines, os.fdopen(writer, "wb") as file, sending(tmp_path, gate.port) as sink:
        sink.wait_until_stored()
        output = JsonLinesSink(file, before_write=sink.wait_until_stored)
        with sink._outbox._lock:  # the disk hangs
            for each in (sink, output):
                each.publish(message)
            assert select.select([lines], [], [], 0.1)[0] == []
        assert lines.readline() == msgspec.json.encode(message) + b"\n"
        output.close()
