"""Kill a real Mosquitto, and the process that publishes to it, fifty times: no event is lost."""

from __future__ import annotations

import functools
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import Event
from fer_edge_device.mqtt.sink import MqttSink
from tests.device.brokers import USER, Certificates, Gate, Mosquitto, Subscriber, subscribing, wait_for
from tests.device.mqtt.helpers import INFO, MESSAGES, event, sending, times
from tests.device.servers import Http, serving
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.slow
def test_loses_no_event_when_the_broker_is_killed(
    gate: Gate, certificates: Certificates, tmp_path: Path, password_file: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    certificate, key = certificates.issue("localhost")
    broker = Mosquitto(tmp_path / "broker", f"certfile {certificate}", f"keyfile {key}", password=True)
    subscriber = Subscriber(authority=certificates.authority, password=True)
    outbox = OutboxSettings(path=str(tmp_path / "outbox.sqlite"), max_rate=2000)
    settings = MqttSettings(
        url=f"mqtts://{USER}@localhost:{gate.port}",
        ca_file=str(certificates.authority),
        password_file=password_file,
    )
    rng = random.Random(5)  # noqa: S311 - not secret
    sink = MqttSink(MESSAGES, settings, outbox, backoff=(0.02, 0.2))
    sink.publish(MESSAGES.availability("online"))
    sink.publish(MESSAGES.info(INFO))
    sent, stop = 0, threading.Event()

    def send() -> None:
        nonlocal sent
        while not stop.wait(0.01):
            if sink.queued > 200:  # on a slow machine, more would wait for the broker than it can take
                continue
            for track in ("s-1", "s-2"):
                sink.publish(MESSAGES.event(event(sent, track)))
            sent += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(50):
            broker.start()
            subscriber.connect(
                broker.port
            )  # before the sink, so that it receives everything that the broker acknowledges
            before = len(subscriber.received)
            gate.target = broker.port
            wait_for(functools.partial(subscriber.has_received, before + 3), "a connection")
            retained = subscriber.received[before : before + 2]
            assert [message.topic for message in retained] == [MESSAGES.topic("info"), MESSAGES.topic("availability")]
            assert retained[1].payload == b"online"
            time.sleep(rng.uniform(0, 0.15))
            broker.kill()
            gate.target = None
            subscriber.wait_for_end()
        stop.set()
        sender.join()
        broker.start()
        subscriber.connect(broker.port)
        gate.target = broker.port
        wait_for(lambda: sink.queued == 0, "the outbox to be empty")
    finally:
        stop.set()
        sender.join()
        sink.close()
        subscriber.drop()
        broker.kill()
    assert sent > 100
    for track in ("s-1", "s-2"):
        assert list(dict.fromkeys(times(subscriber.received, track))) == list(range(sent))
    assert sink.dropped == 0
    assert (
        caplog.text.count("connected to mqtts://localhost:") >= 50
    )  # before the last connect, everything may have been delivered


# Forks a runner for each line that it reads: fifty imports of everything would take longer than the rest of the test.
STARTER = """
import os, sys
import msgspec
from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import Event, MessageFactory
from fer_edge_device.mqtt.sink import MqttSink

port, outbox, journal, event = sys.argv[1:]
event = msgspec.json.decode(event, type=Event)
messages = MessageFactory("hall")

def run():
    sink = MqttSink(messages, MqttSettings(url=f"mqtt://localhost:{port}"), OutboxSettings(path=outbox, max_rate=1000))
    sink.publish(messages.availability("online"))
    with open(journal, "ab+", buffering=0) as file:
        file.seek(0)
        first = len(file.read())
        print(os.getpid(), flush=True)
        for number in range(first, first + 100_000):
            sink.publish(messages.event(msgspec.structs.replace(event, time=number)))
            sink.wait_until_stored()
            file.write(b".")  # reported: from here on it must not be lost

for _ in sys.stdin:
    if not (child := os.fork()):
        run()
        os._exit(1)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


@pytest.mark.slow
def test_loses_no_event_when_the_runner_is_killed(broker: Mosquitto, tmp_path: Path) -> None:
    journal, outbox = tmp_path / "journal", tmp_path / "outbox.sqlite"
    journal.touch()
    first = msgspec.json.encode(event(0)).decode()
    command = [sys.executable, "-c", STARTER, str(broker.port), str(outbox), str(journal), first]
    rng = random.Random(5)  # noqa: S311 - not secret
    with subscribing(broker.port) as subscriber:
        with Process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
            assert starter.stdin is not None
            assert starter.stdout is not None
            for number in range(50):
                goal = journal.stat().st_size + rng.randint(1, 9) if number % 2 else 0
                print("start", file=starter.stdin, flush=True)
                runner = int(starter.stdout.readline())
                if goal:  # kill it among events, and else while it starts
                    wait_for(functools.partial(lambda size: journal.stat().st_size >= size, goal), "events")
                time.sleep(rng.uniform(0, 0.05))
                os.kill(runner, signal.SIGKILL)
                assert starter.stdout.readline() == "ended\n"
        reported = journal.stat().st_size
        with sending(tmp_path, broker.port) as sink:
            wait_for(lambda: sink.queued == 0, "the outbox to be empty")
        arrived = list(dict.fromkeys(times(subscriber.received)))
        assert arrived == list(range(len(arrived)))
        # The last runner may have been killed between writing to the outbox and to the journal.
        assert reported <= len(arrived) <= reported + 1
        assert reported > 100
        ends = {each.time for each in events(subscriber) if each.event_type == "end"}
        assert 10 < len(ends) <= 50, "most runs left a face in view"
        assert b"offline" in subscriber.payloads(MESSAGES.topic("availability"))  # the will


def events(subscriber: Subscriber) -> list[Event]:
    return [msgspec.json.decode(payload, type=Event) for payload in subscriber.payloads(MESSAGES.topic("event"))]


@pytest.mark.slow
def test_restart_after_a_kill_shows_the_present_and_ends_the_faces_of_before(broker: Mosquitto, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    with serving(Http) as camera, subscribing(broker.port) as subscriber:
        config.write_text(
            f'node = "hall"\n[camera]\nsource = "http://127.0.0.1:{camera.port}/video"\n[mqtt]\n'
            f'url = "mqtt://localhost:{broker.port}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
        )

        def run_until(condition: Callable[[], object], description: str) -> None:
            command = [sys.executable, "-m", "fer_edge.cli", "run", "--config", str(config)]
            with Process(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as runner:
                try:
                    wait_for(condition, description)
                finally:
                    runner.kill()

        def topics() -> list[str]:
            return [received.topic.removeprefix("fer-edge/hall/") for received in list(subscriber.received)]

        run_until(lambda: "event" in topics(), "a face")
        wait_for(lambda: b"offline" in subscriber.payloads(MESSAGES.topic("availability")), "the will")
        before = len(subscriber.received)
        opened = {each.id for each in events(subscriber)}
        run_until(lambda: "stats" in topics()[before:], "the second run")
        second = subscriber.received[before:]
        online = next(index for index, message in enumerate(second) if message.payload == b"online")
        states = [message.payload for message in second[:online] if message.topic == MESSAGES.topic("state")]
        assert [msgspec.json.decode(payload)["faces"] for payload in states] == [0]
        ended = [each.id for each in events(subscriber) if each.event_type == "end"]
        assert opened
        assert opened <= set(ended)
        assert len(ended) == len(set(ended))
