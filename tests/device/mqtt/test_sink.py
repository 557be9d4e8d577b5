"""The MQTT sink against a real Mosquitto that is killed, restarted, locked and encrypted."""

from __future__ import annotations

import functools
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge.errors import BrokerError, FerEdgeError, InputError
from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import Event, Info, MessageFactory, Stats
from fer_edge_device.mqtt.connection import parse_url
from fer_edge_device.mqtt.home_assistant import discovery_message
from fer_edge_device.mqtt.outbox import Outbox
from fer_edge_device.mqtt.sink import MqttSink, check_broker, forget_node
from tests.device.brokers import (
    PASSWORD,
    USER,
    Certificates,
    Gate,
    Heard,
    Listener,
    Mosquitto,
    listening,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Cli

TOPICS = MessageFactory("hall")
INFO = Info(version="0", model="edge", model_sha256="0", labels=("a", "b"))
STATS = Stats(time=0, fps=1, stages={}, dropped=0, temp_c=None, throttled=None, rss_mb=1, queued=0, dropped_events=0)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return str(path)


def event(number: int, track: str = "s-1") -> Event:
    return Event(
        event_type="update",
        id=track,
        time=number,
        emotion="a",
        score=1,
        scores={"a": 1},
        previous=None,
        box=(0, 0, 1, 1),
        duration_s=0,
        model="edge",
    )


@contextmanager
def sending(
    tmp_path: Path,
    port: int,
    *,
    rate: float = 10_000,
    ha_discovery: bool = False,
    on_enabled: Callable[[bool], None] | None = None,
    backoff: tuple[float, float] = (0.02, 0.2),
) -> Iterator[MqttSink]:
    """A sink, and its first message."""
    outbox = OutboxSettings(path=str(tmp_path / "outbox.sqlite"), max_rate=rate)
    settings = MqttSettings(url=f"mqtt://localhost:{port}", ha_discovery=ha_discovery)
    sink = MqttSink(TOPICS, settings, outbox, on_enabled=on_enabled, backoff=backoff)
    try:
        sink.publish(TOPICS.availability("online"))
        yield sink
    finally:
        sink.close()


def times(heard: list[Heard], track: str = "s-1") -> list[float]:
    """The times of a track's events, as they came."""
    events = [msgspec.json.decode(message.payload, type=Event) for message in heard if message.topic.endswith("/event")]
    return [event.time for event in events if event.id == track]


def test_messages_arrive_and_the_last_word_is_offline(broker: Mosquitto, tmp_path: Path) -> None:
    with listening(broker.port) as listener:
        with sending(tmp_path, broker.port) as sink:
            sink.publish(TOPICS.info(INFO))
            wait_for(lambda: listener.payloads(TOPICS.topic("info")), "a connection")
            for number in range(30):
                sink.publish(TOPICS.event(event(number)))
            sink.publish(TOPICS.stats(STATS))
            sink.publish(TOPICS.enabled(enabled=True))
            sink.publish(TOPICS.availability("offline"))
            sink.publish(TOPICS.event(event(30)))
        wait_for(lambda: b"offline" in listener.payloads(TOPICS.topic("availability")), "offline")
        assert times(listener.heard) == list(range(31))
        assert listener.payloads(TOPICS.topic("stats")) == [msgspec.json.encode(STATS)]
        assert listener.payloads(TOPICS.topic("availability")) == [b"online", b"offline"]
        assert listener.heard[-1].topic == TOPICS.topic("availability")
        assert (sink.queued, sink.dropped) == (0, 0)
    with listening(broker.port) as late:
        wait_for(lambda: len(late.heard) >= 3, "what is retained")
        assert {heard.topic: heard.payload for heard in late.heard if heard.retained} == {
            TOPICS.topic("availability"): b"offline",
            TOPICS.topic("info"): msgspec.json.encode(INFO),
            TOPICS.topic("enabled/state"): b"ON",
        }


def test_a_broker_that_comes_later_gets_it_all_but_what_is_only_of_the_moment(
    gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path / "broker") as broker, sending(tmp_path, gate.port) as sink:
        for number in range(5):
            sink.publish(TOPICS.event(event(number)))
        sink.publish(TOPICS.camera("stalled"))
        sink.publish(TOPICS.camera("online"))
        sink.publish(TOPICS.stats(STATS))
        wait_for(lambda: gate.visits >= 10, "attempts")
        assert sink.queued == 5
        with listening(broker.port) as listener:
            gate.target = broker.port
            wait_for(lambda: sink.queued == 0, "the outbox to be empty")
            assert times(listener.heard) == list(range(5))
            assert listener.heard[0].topic == TOPICS.topic("availability")
            assert listener.payloads(TOPICS.topic("camera")) == [b"online"]
            assert listener.payloads(TOPICS.topic("stats")) == []
    complaints = [record for record in caplog.records if "closed the connection without an answer" in record.message]
    assert len(complaints) == 1


def test_who_publishes_never_waits_for_a_broker_that_says_nothing(gate: Gate, tmp_path: Path) -> None:
    gate.silent = True
    with sending(tmp_path, gate.port) as sink:
        wait_for(lambda: gate.visits, "a connection")
        for _ in range(10_000):
            sink.publish(TOPICS.camera("online"))
        sink.publish(TOPICS.event(event(1)))
        sink.close(timeout=0.1)
        assert gate.visits == 1


def mqtt_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mqtt"]


def test_closing_ends_the_thread_also_where_a_broker_falls_silent(gate: Gate, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "broker") as broker, listening(broker.port) as listener:
        gate.target = broker.port
        with sending(tmp_path, gate.port) as sink:
            wait_for(lambda: listener.payloads(TOPICS.topic("availability")), "a connection")
            broker.freeze()
            sink.publish(TOPICS.event(event(1)))
            sink.close(timeout=1)
            assert not mqtt_threads()
            assert sink.queued == 1
            broker.kill()


def test_a_name_server_that_does_not_answer_keeps_nobody_from_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, answer = threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> list[object]:
        asked.set()
        assert answer.wait(60)
        return find(*_, **__)  # type: ignore[arg-type,return-value]

    find = socket.getaddrinfo
    with Gate() as gate:
        gate.silent = True
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        with sending(tmp_path, gate.port) as sink:
            assert asked.wait(60)
            sink.publish(TOPICS.event(event(1)))
            sink.close(timeout=0.1)
            assert "the system does not give up connecting; that is left behind" in caplog.text
        outbox = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
        answer.set()
        wait_for(lambda: not mqtt_threads(), "the thread to end")
        assert len(outbox) == 1
        outbox.close()
    assert "events cannot be kept" not in caplog.text


def test_what_was_not_sent_is_sent_by_the_next_run(broker: Mosquitto, gate: Gate, tmp_path: Path) -> None:
    with sending(tmp_path, gate.port) as sink:
        sink.publish(TOPICS.event(event(1)))
    with listening(broker.port) as listener, sending(tmp_path, broker.port) as sink:
        sink.publish(TOPICS.event(event(2)))
        wait_for(lambda: len(times(listener.heard)) == 2, "both events")
        assert times(listener.heard) == [1, 2]


def test_events_leave_no_faster_than_agreed(broker: Mosquitto, gate: Gate, tmp_path: Path) -> None:
    with listening(broker.port) as listener, sending(tmp_path, gate.port, rate=20) as sink:
        for number in range(11):
            sink.publish(TOPICS.event(event(number)))
        began = time.monotonic()
        gate.target = broker.port
        wait_for(lambda: len(times(listener.heard)) == 11, "the events")
        assert time.monotonic() - began >= 10 / 20


def test_attempts_are_further_and_further_apart_at_random(
    gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    waits: list[float] = []

    def seen() -> int:
        waits[:] = [float(wait) for wait in re.findall(r"next attempt in ([\d.]+) s", caplog.text)]
        return len(waits)

    with sending(tmp_path, gate.port, backoff=(0.01, 0.3)):
        wait_for(lambda: seen() >= 25, "attempts")
    assert all(0.01 <= wait <= 0.3 for wait in waits)
    assert len(set(waits)) > 5
    assert waits[0] <= 0.03
    assert max(waits) > 0.1


def test_nothing_is_left_behind_by_hundreds_of_attempts(tmp_path: Path) -> None:
    def resources() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    samples = []
    with Gate() as dead, sending(tmp_path, dead.port, backoff=(0.001, 0.002)):
        for goal in range(100, 701, 300):
            while dead.visits < goal:
                time.sleep(0.01)
            # The least of looks during many visits, because the gate has threads and sockets of its own for each.
            looks = [resources()]
            while dead.visits < goal + 50:
                looks.append(resources())
            samples.append(tuple(map(min, zip(*looks, strict=True))))
    assert samples[-1][0] <= samples[0][0]
    assert samples[-1][1] <= samples[0][1]


def test_a_broker_of_the_older_version_is_spoken_to_in_its_own(
    broker: Mosquitto, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gate.refuses_version_5, gate.target = True, broker.port
    with listening(broker.port) as listener, sending(tmp_path, gate.port) as sink:
        sink.publish(TOPICS.event(event(1)))
        wait_for(lambda: times(listener.heard) == [1], "the event")
    assert "(MQTT 3.1.1)" in caplog.text
    assert check_broker(MqttSettings(url=f"mqtt://localhost:{gate.port}"), "hall").endswith(
        "(MQTT 3.1.1), logged in without a user"
    )


def test_the_switch_is_heard_retained_or_not_and_only_in_words_that_it_knows(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    switch = TOPICS.topic("enabled/set")
    with listening(broker.port) as listener:
        listener.say(switch, "OFF", retain=True)
        with sending(tmp_path, broker.port, on_enabled=told.append):
            wait_for(lambda: told == [False], "the retained word")
            for word in ("maybe", "ON", "false", "1", "0", "True"):
                listener.say(switch, word)
            listener.say(switch, "", retain=True)
            wait_for(lambda: told == [False, True, False, True, False, True], "the words")
    assert caplog.text.count("'maybe' is neither ON nor OFF") == 1


def test_what_a_stranger_sends_to_fill_the_memory_does_not_come(broker: Mosquitto, tmp_path: Path) -> None:
    told: list[bool] = []
    with listening(broker.port) as listener:
        listener.say(TOPICS.topic("enabled/set"), " " * 1_000_000 + "ON", retain=True)
        with sending(tmp_path, broker.port, on_enabled=told.append):
            wait_for(lambda: listener.payloads(TOPICS.topic("availability")), "a connection")
            listener.say(TOPICS.topic("enabled/set"), "OFF", retain=True)
            wait_for(lambda: told, "a word")
    assert told == [False]


def test_home_assistant_is_told_again_when_it_starts(broker: Mosquitto, tmp_path: Path) -> None:
    announcement = discovery_message(TOPICS, INFO)
    with listening(broker.port) as listener:
        listener.say("homeassistant/status", "online", retain=True)
        with sending(tmp_path, broker.port, ha_discovery=True) as sink:
            sink.publish(announcement)
            wait_for(lambda: listener.payloads(announcement.topic), "the announcement")
            listener.say("homeassistant/status", "offline")
            listener.say("homeassistant/status", "online")
            wait_for(lambda: len(listener.payloads(announcement.topic)) == 2, "the announcement again")
            assert set(listener.payloads(announcement.topic)) == {announcement.body()}


@contextmanager
def obeying(tmp_path: Path, *rules: str) -> Iterator[Mosquitto]:
    """A broker where everybody may listen, and publish only what the rules say."""
    file = tmp_path / "rules"
    file.write_text("\n".join(["topic read #", *rules, ""]))
    file.chmod(0o600)
    with Mosquitto(tmp_path / "broker", f"acl_file {file}") as broker:
        yield broker


def test_events_that_a_broker_refuses_are_dropped_one_by_one_and_told_once_until_it_takes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    advice = "refuses {} (Not authorized); have it let clients without a user publish to fer-edge/hall/{}"
    with (
        obeying(tmp_path, f"topic write {TOPICS.topic('availability')}") as broker,
        sending(tmp_path, broker.port) as sink,
    ):
        for number in range(20):
            sink.publish(TOPICS.event(event(number)))
        wait_for(lambda: sink.dropped >= 2, "some to be given up")
        sink.publish(TOPICS.info(INFO))
        wait_for(lambda: advice.format("messages", "#") in caplog.text, "the other refusal")
        with listening(broker.port) as listener:
            with (tmp_path / "rules").open("a") as file:
                file.write(f"topic write {TOPICS.topic('event')}\n")
            broker.reload()
            wait_for(lambda: sink.queued == 0, "the others to leave the outbox")
            wait_for(lambda: times(listener.heard) == list(range(sink.dropped, 20)), "the others")
        assert sink.dropped < 20
    assert caplog.text.count("refuses events") == 1
    assert f"{advice.format('events', 'event')}. Each is offered 5 times, then dropped" in caplog.text


def test_events_that_are_refused_wait_for_the_next_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        obeying(tmp_path, f"topic write {TOPICS.topic('availability')}") as broker,
        sending(tmp_path, broker.port, backoff=(60, 60)) as sink,
    ):
        sink.publish(TOPICS.event(event(1)))
        wait_for(lambda: "refuses events" in caplog.text, "the refusal")
        sink.close()
        assert (sink.queued, sink.dropped) == (1, 0)


def test_events_of_a_name_that_the_node_had_do_not_hold_up_its_own(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", OutboxSettings())
    for _ in range(30):
        outbox.put("fer-edge/cellar/event", b"")
    outbox.close()
    with obeying(tmp_path, "topic write fer-edge/hall/#") as broker, listening(broker.port) as listener:
        with sending(tmp_path, broker.port, backoff=(60, 60)) as sink:
            sink.publish(TOPICS.event(event(1)))
            wait_for(lambda: times(listener.heard) == [1], "the event")
        assert (sink.queued, sink.dropped) == (0, 30)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_an_event_at_which_a_broker_closes_the_connection_is_found_out_and_dropped(
    version: str, gate: Gate, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        Mosquitto(tmp_path / "broker", "max_packet_size 1000") as broker,
        sending(tmp_path, gate.port) as sink,
        listening(broker.port) as listener,
    ):
        for number, track in enumerate(["s-1", "s-1", "x" * 1000, "s-1", "s-1"]):
            sink.publish(TOPICS.event(event(number, track)))
        gate.refuses_version_5, gate.target = version == "3.1.1", broker.port
        wait_for(lambda: sink.queued == 0, "the outbox to be empty")
        wait_for(lambda: list(dict.fromkeys(times(listener.heard))) == [0, 1, 3, 4], "the others")
        assert sink.dropped == 1
    assert caplog.text.count("closed the connection 5 times at the same event") == 1
    assert caplog.text.count("connection lost (closed by the broker)") <= 1


def test_two_devices_of_one_name_are_told_so(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sending(tmp_path / "a", broker.port), sending(tmp_path / "b", broker.port):
        wait_for(lambda: "has another device the same node?" in caplog.text, "the warning")


@pytest.mark.slow
def test_a_broker_that_is_killed_fifty_times_loses_no_event(
    gate: Gate, certificates: Certificates, tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificate, key = certificates.issue("localhost")
    broker = Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}", password=True)
    listener = Listener(authority=certificates.authority, password=True)
    outbox = OutboxSettings(path=str(tmp_path / "outbox.sqlite"), max_rate=2000)
    settings = MqttSettings(
        url=f"mqtts://{USER}@localhost:{gate.port}",
        ca_file=str(certificates.authority),
        password_file=password_file,
    )
    chance = random.Random(5)  # noqa: S311 - no secret
    sink = MqttSink(TOPICS, settings, outbox, backoff=(0.02, 0.2))
    sink.publish(TOPICS.availability("online"))
    sink.publish(TOPICS.info(INFO))
    sent = 0
    stop = threading.Event()

    def send() -> None:
        nonlocal sent
        while not stop.wait(0.01):
            for track in ("s-1", "s-2"):
                sink.publish(TOPICS.event(event(sent, track)))
            sent += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(50):
            broker.start()
            listener.connect(broker.port)  # before the sink: what it says now is heard, or not acknowledged
            before = len(listener.heard)
            gate.target = broker.port
            wait_for(functools.partial(listener.has_heard, before + 3), "a connection")
            retained = listener.heard[before : before + 2]
            assert [message.topic for message in retained] == [TOPICS.topic("availability"), TOPICS.topic("info")]
            assert retained[0].payload == b"online"
            time.sleep(chance.uniform(0, 0.15))
            broker.kill()
            gate.target = None
            listener.hear_the_last()
        stop.set()
        sender.join()
        broker.start()
        listener.connect(broker.port)
        gate.target = broker.port
        wait_for(lambda: sink.queued == 0, "the outbox to be empty")
    finally:
        stop.set()
        sender.join()
        sink.close()
        listener.drop()
        broker.kill()
    assert sent > 100
    for track in ("s-1", "s-2"):
        assert list(dict.fromkeys(times(listener.heard, track))) == list(range(sent))
    assert sink.dropped == 0
    assert caplog.text.count("connected to mqtts://localhost:") >= 50  # by the last all may have been delivered


# Starts a runner for each line it reads, by a fork: importing everything fifty times would take longer than the rest.
STARTER = """
import os, sys
import msgspec
from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import Event, MessageFactory
from fer_edge_device.mqtt.sink import MqttSink

port, outbox, journal, event = sys.argv[1:]
event = msgspec.json.decode(event, type=Event)
topics = MessageFactory("hall")

def run():
    sink = MqttSink(topics, MqttSettings(url=f"mqtt://localhost:{port}"), OutboxSettings(path=outbox, max_rate=1000))
    sink.publish(topics.availability("online"))
    with open(journal, "ab+", buffering=0) as file:
        file.seek(0)
        first = len(file.read())
        print(os.getpid(), flush=True)
        for number in range(first, first + 100_000):
            sink.publish(topics.event(msgspec.structs.replace(event, time=number)))
            file.write(b".")  # told: from here on it must not be lost

for _ in sys.stdin:
    if not (child := os.fork()):
        run()
        os._exit(1)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
def test_a_runner_that_is_killed_fifty_times_loses_no_event(broker: Mosquitto, tmp_path: Path) -> None:
    journal, outbox = tmp_path / "journal", tmp_path / "outbox.sqlite"
    first = msgspec.json.encode(event(0)).decode()
    command = [sys.executable, "-c", STARTER, str(broker.port), str(outbox), str(journal), first]
    chance = random.Random(5)  # noqa: S311 - no secret
    with listening(broker.port) as listener:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdin is not None
            assert starter.stdout is not None
            for _ in range(50):
                print("start", file=starter.stdin, flush=True)
                runner = int(starter.stdout.readline())
                time.sleep(chance.uniform(0, 0.2))
                os.kill(runner, signal.SIGKILL)
                assert starter.stdout.readline() == "ended\n"
        reported = journal.stat().st_size
        with sending(tmp_path, broker.port) as sink:
            wait_for(lambda: sink.queued == 0, "the outbox to be empty")
        arrived = list(dict.fromkeys(times(listener.heard)))
        assert arrived == list(range(len(arrived)))
        # The last one may have been killed after the outbox and before the journal had its last event.
        assert reported <= len(arrived) <= reported + 1
        assert reported > 100
        assert b"offline" in listener.payloads(TOPICS.topic("availability"))  # the will


def refusal(settings: MqttSettings) -> str:
    with pytest.raises(BrokerError) as failed:
        check_broker(settings, "hall", timeout=30)
    return str(failed.value)


def test_a_refused_login_is_said_plainly_and_once(
    tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Mosquitto(tmp_path / "broker", password=True) as broker, Gate() as gate:
        gate.target = broker.port
        wrong = tmp_path / "wrong"
        wrong.write_text("guess")
        url = f"mqtt://{USER}@localhost:{broker.port}"
        assert "refuses the login (Not authorized); check the user camera and the password" in refusal(
            MqttSettings(url=url, password_file=str(wrong))
        )
        assert "mqtt.url names no user: mqtt://user@host" in refusal(
            MqttSettings(url=f"mqtt://localhost:{broker.port}")
        )
        reached = check_broker(MqttSettings(url=url, password_file=password_file), "hall")
        assert reached == f"mqtt://localhost:{broker.port} (MQTT 5), logged in as camera"
        with sending(tmp_path, gate.port) as sink:
            sink.publish(TOPICS.event(event(1)))
            wait_for(lambda: gate.visits >= 5, "attempts")
            assert sink.queued == 1
    assert caplog.text.count("refuses the login (Not authorized)") == 1


def test_a_password_is_taken_from_the_service_s_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mqtt-password").write_text(PASSWORD)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with Mosquitto(tmp_path / "broker", password=True) as broker:
        settings = MqttSettings(url=f"mqtt://{USER}@localhost:{broker.port}")
        assert "logged in as camera" in check_broker(settings, "hall")
        (tmp_path / "mqtt-password").unlink()
        assert "refuses the login" in refusal(settings)


def test_encrypted_connections_are_verified(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("localhost")
    authority = str(certificates.authority)
    with Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}") as broker:
        address = f"localhost:{broker.port}"
        reached = check_broker(MqttSettings(url=f"mqtts://{address}", ca_file=authority), "hall")
        assert re.fullmatch(rf"mqtts://{address} \(MQTT 5, TLSv1\.[23]\), logged in without a user", reached)
        said = refusal(MqttSettings(url=f"mqtts://{address}"))
        assert re.search(r"its certificate is refused \(.*\); if it is your own, .* mqtt\.ca_file", said)
        said = refusal(MqttSettings(url=f"mqtts://127.0.0.1:{broker.port}", ca_file=authority))
        assert re.search(r"refused \(IP address mismatch.*\); use a name that the certificate is for", said)
        said = refusal(MqttSettings(url=f"mqtt://{address}"))
        assert "closed the connection without an answer; is it the port for mqtts://, or no broker?" in said


def test_a_certificate_that_has_expired_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("localhost", valid_until=datetime(2020, 1, 1, tzinfo=UTC))
    with Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}") as broker:
        said = refusal(MqttSettings(url=f"mqtts://localhost:{broker.port}", ca_file=str(certificates.authority)))
    assert "(certificate has expired); renew it, or set this machine's clock" in said


def test_a_broker_that_wants_a_certificate_gets_ours(certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("localhost")
    own, own_key = certificates.issue("device")
    authority = certificates.authority
    lines = (f"certfile {certificate}", f"keyfile {key}", f"cafile {authority}", "require_certificate true")
    with Mosquitto(tmp_path / "broker", *lines) as broker:
        settings = MqttSettings(
            url=f"mqtts://localhost:{broker.port}", ca_file=str(authority), cert_file=str(own), key_file=str(own_key)
        )
        assert "logged in" in check_broker(settings, "hall")
        said = refusal(msgspec.structs.replace(settings, cert_file="", key_file=""))
        # What the broker says of it is lost when it closes before our first words have come.
        assert re.search(r"wants a client certificate; set mqtt\.cert_file|does it want mqtt\.cert_file", said)


def test_a_place_without_a_broker_is_said(broker: Mosquitto, gate: Gate) -> None:
    assert "no TLS there" in refusal(MqttSettings(url=f"mqtts://localhost:{broker.port}"))
    assert "its name is not known" in refusal(MqttSettings(url="mqtt://broker.invalid"))
    assert "or no broker?" in refusal(MqttSettings(url=f"mqtt://localhost:{gate.port}"))
    broker.kill()
    assert "refuses the connection; is a broker running there?" in refusal(
        MqttSettings(url=f"mqtt://localhost:{broker.port}")
    )
    gate.silent = True
    with pytest.raises(BrokerError, match="gave no answer to the login for 1 s"):
        check_broker(MqttSettings(url=f"mqtt://localhost:{gate.port}"), "hall", timeout=1)


@pytest.mark.parametrize(
    ("url", "shown", "user"),
    [
        ("mqtt://broker", "mqtt://broker:1883", ""),
        ("mqtts://broker/", "mqtts://broker:8883", ""),
        ("MQTT://ada@broker.lan:1884", "mqtt://broker.lan:1884", "ada"),
        ("mqtt://ada%40home@10.0.0.2", "mqtt://10.0.0.2:1883", "ada@home"),
        ("mqtt://ada@home.net@broker", "mqtt://broker:1883", "ada@home.net"),
        ("mqtts://[fe80::1]", "mqtts://[fe80::1]:8883", ""),
        ("mqtt://ada@[::1]:99", "mqtt://[::1]:99", "ada"),
    ],
)
def test_addresses_are_read(url: str, shown: str, user: str) -> None:
    address = parse_url(url)
    assert (str(address), address.user) == (shown, user)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("broker", "an address looks like"),
        ("http://broker", "an address looks like"),
        ("mqtt://", "an address looks like"),
        ("mqtt://broker:0", "an address looks like"),
        ("mqtt://broker:70000", "an address looks like"),
        ("mqtt://broker:s3cret", "an address looks like"),
        ("mqtt://fe80::1", "IPv6"),
        ("mqtt://[fe80::1", "IPv6"),
        ("mqtt://broker/topic", "with nothing after it"),
        ("mqtt://ada:s3cret@broker", r"a password does not belong in an address; .*mqtt\.password_file"),
        ("mqtt://ada:s3/cret#@broker:1", "a password does not belong in an address"),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_a_password(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        parse_url(url)
    assert "s3" not in str(refused.value)


def test_settings_that_cannot_work_are_refused_at_once(certificates: Certificates, tmp_path: Path) -> None:
    def refused(**settings: str) -> str:
        with pytest.raises(InputError) as failed:
            check_broker(MqttSettings(**settings), "hall")  # type: ignore[arg-type]
        return str(failed.value)

    certificate, key = certificates.issue("device")
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.write_text("\n")
    text.write_text("no certificate")
    assert "mqtt.ca_file is for encrypted connections" in refused(url="mqtt://b", ca_file=str(text))
    assert "missing: mqtt.ca_file cannot be used (No such file" in refused(url="mqtts://b", ca_file="missing")
    assert "mqtt.ca_file cannot be used" in refused(url="mqtts://b", ca_file=str(text))
    assert "mqtt.cert_file and key_file cannot be used" in refused(url="mqtts://b", cert_file=str(text))
    assert "needs its certificate" in refused(url="mqtts://b", key_file=str(key))
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked],  # noqa: S607
        check=True,
    )
    assert "mqtt.key_file is encrypted" in refused(url="mqtts://b", cert_file=str(certificate), key_file=str(locked))
    assert "nobody it belongs to" in refused(url="mqtt://b", password_file=str(text))
    assert "mqtt.password_file is empty" in refused(url="mqtt://u@b", password_file=str(empty))
    assert "cannot be read (No such file" in refused(url="mqtt://u@b", password_file=str(tmp_path / "missing"))


def test_nodes_of_one_name_and_different_prefixes_leave_one_another_alone(broker: Mosquitto, tmp_path: Path) -> None:
    there = MessageFactory("hall", "site/2")
    settings = MqttSettings(url=f"mqtt://localhost:{broker.port}", topic_prefix="site/2")
    with listening(broker.port) as listener, sending(tmp_path, broker.port):
        wait_for(lambda: listener.payloads(TOPICS.topic("availability")), "the first")
        other = MqttSink(there, settings, OutboxSettings(path=str(tmp_path / "other.sqlite")))
        other.publish(there.availability("online"))
        wait_for(lambda: listener.payloads(there.topic("availability")), "the second")
        assert listener.payloads(TOPICS.topic("availability")) == [b"online"]
        check_broker(settings, "hall")
        forget_node(settings, there)
        assert listener.payloads(TOPICS.topic("availability")) == [b"online"]
        other.close()


def test_forget_takes_the_node_from_the_broker_and_from_home_assistant(
    broker: Mosquitto, tmp_path: Path, cli: Cli
) -> None:
    with sending(tmp_path, broker.port) as sink:
        sink.publish(TOPICS.info(INFO))
        sink.publish(discovery_message(TOPICS, INFO))
    url = f"mqtt://localhost:{broker.port}"
    said = cli("mqtt", "forget", "--mqtt", url, "--node", "hall").stderr
    assert said == f"hall is forgotten at {url} (MQTT 5)\n"
    with listening(broker.port) as listener:
        listener.say("done", "")
        wait_for(lambda: listener.payloads("done"), "an echo")
        assert [heard for heard in listener.heard if heard.retained] == []
    broker.kill()
    failed = cli("mqtt", "forget", "--mqtt", url, "--node", "hall", status=1).stderr
    assert failed == f"fer-edge: {url}: refuses the connection; is a broker running there?\n"
    assert "mqtt.url" in cli("mqtt", "forget", "--node", "hall", status=2).stderr
    assert issubclass(BrokerError, FerEdgeError)
