"""Kill a runner and restart its broker at random, and count the events that are lost, out of order or stale.

    python -m benchmarks.kills [--kills 100] [--restarts 100] [--seed 1]

Needs Mosquitto, and the tests' tools. A real `fer-edge run` watches a camera on the network that plays the demo. It is
killed with SIGKILL after a random time and started again. Meanwhile the broker is killed and started again at random,
and is sometimes away for longer than events are fresh. What counts as reported are the runner's lines on standard
output. The exit status is 1 if a figure is not 0.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.device.brokers import Gate, Mosquitto
from tests.device.servers import Http, serving

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_AGE: Final = 2.0  # seconds for which events are fresh
GRACE: Final = 1.0  # seconds on the way that do not make an event stale: the machine is loaded
CONFIG: Final = """
node = "soak"
[camera]
source = "http://127.0.0.1:{camera}/video"
[events]
min_hits = 1
hold_s = 0
[mqtt]
url = "mqtt://127.0.0.1:{broker}"
event_max_age_s = {max_age}
[outbox]
path = "{folder}/outbox.sqlite"
"""


class Key(NamedTuple):
    """The fields that distinguish an event from all others."""

    track: str
    time: float
    event_type: str


class Arrival(NamedTuple):
    """An event that a subscriber received, and after how many seconds."""

    topic: str
    key: Key
    age: float


def key_of(payload: dict[str, Any]) -> Key:
    """Return the key of a decoded event."""
    return Key(payload["id"], payload["time"], payload["event_type"])


class Broker:
    """A Mosquitto behind a gate, restarted at random from a thread of its own, and a subscriber of its events."""

    def __init__(self, folder: Path, gate: Gate, rng: random.Random) -> None:
        """Start the broker."""
        self._broker, self._gate, self._rng = Mosquitto(folder), gate, rng
        self.arrivals: list[Arrival] = []
        self._start()

    def restart(self, times: int) -> None:
        """Restart the broker at random; one time in five it is away for longer than events are fresh."""
        for _ in range(times):
            time.sleep(self._rng.uniform(0.1, 3))
            self._broker.kill()
            self._gate.target = None
            self._client.disconnect()
            self._client.loop_stop()
            away = MAX_AGE + 1 if self._rng.random() < 1 / 5 else 0.3
            time.sleep(self._rng.uniform(0, away))
            self._start()

    def stop(self) -> None:
        """Stop the broker."""
        self._client.disconnect()
        self._client.loop_stop()
        self._broker.kill()

    def _start(self) -> None:
        self._broker.start()
        subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, reconnect_on_failure=False)
        self._client.on_message = self._receive
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", self._broker.port)
        self._client.loop_start()
        self._client.subscribe("fer-edge/soak/event/#", 1)
        subscribed.wait(60)
        self._gate.target = self._broker.port  # only now, so that the subscriber hears all that is acknowledged

    def _receive(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        key = key_of(json.loads(message.payload))
        self.arrivals.append(Arrival(message.topic.removeprefix("fer-edge/soak/"), key, time.time() - key.time))


def run_and_kill(config: Path, seconds: float, log: Path) -> list[Key]:
    """Run the runner until some seconds after its first message, kill it, and return the events that it reported."""
    reported = []
    with log.open("ab") as errors:
        command = [sys.executable, "-m", "fer_edge.cli", "run", "--config", str(config)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as runner:  # noqa: S603 - our own command
            assert runner.stdout is not None  # noqa: S101 - for the type checker
            timer = threading.Timer(seconds, runner.kill)
            for number, line in enumerate(runner.stdout):
                if not number:
                    timer.start()
                with suppress(ValueError):  # the last line may be cut off
                    message = json.loads(line)
                    if message["topic"].endswith("/event"):
                        reported.append(key_of(message["payload"]))
            timer.cancel()
    return reported


def count_disorder(arrivals: Iterable[Arrival]) -> int:
    """Return how many events came behind a later one of their track and topic; repeats do not count."""
    latest: dict[tuple[str, str], float] = {}
    seen: set[Arrival] = set()
    disorder = 0
    for arrival in arrivals:
        repeat = arrival._replace(age=0)
        if repeat not in seen:
            seen.add(repeat)
            place = arrival.topic, arrival.key.track
            disorder += arrival.key.time < latest.get(place, 0)
            latest[place] = max(latest.get(place, 0), arrival.key.time)
    return disorder


def main() -> int:
    """Kill and restart, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100, help="kills of the runner")
    parser.add_argument("--restarts", type=int, default=100, help="restarts of the broker")
    parser.add_argument("--seed", type=int, default=1, help="seed of all random times")
    options = parser.parse_args()
    rng = random.Random(options.seed)  # noqa: S311 - not secret
    reported: list[Key] = []
    with tempfile.TemporaryDirectory() as name, Gate() as gate, serving(Http) as camera:
        folder = Path(name)
        broker = Broker(folder / "broker", gate, random.Random(options.seed + 1))  # noqa: S311 - likewise
        config = folder / "config.toml"
        config.write_text(CONFIG.format(camera=camera.port, broker=gate.port, max_age=MAX_AGE, folder=folder))
        restarts = threading.Thread(target=broker.restart, args=(options.restarts,))
        restarts.start()
        for number in range(1, options.kills + 1):
            reported += run_and_kill(config, rng.uniform(0.1, 3), folder / "log")
            if number % 10 == 0:
                print(f"{number:>4} kills, {len(reported)} events reported, {len(broker.arrivals)} arrived", flush=True)
        restarts.join()
        reported += run_and_kill(config, 30, folder / "log")  # time to send what waits
        broker.stop()
        arrivals = broker.arrivals
    arrived = {arrival.key for arrival in arrivals}
    lost = len(set(reported) - arrived)
    open_tracks = {key.track for key in reported[:-1]} - {key.track for key in arrived if key.event_type == "end"}
    disorder = count_disorder(arrivals)
    stale = sum(arrival.topic == "event" and arrival.age > MAX_AGE + GRACE for arrival in arrivals)
    backlog = len({arrival.key for arrival in arrivals if arrival.topic != "event"})
    last = {key.track.partition("-")[0] for key in reported[-1:]}  # the last run is killed as well
    without_end = sum(track.partition("-")[0] not in last for track in open_tracks)
    print(
        f"{options.kills} kills of the runner and {options.restarts} restarts of the broker:"
        f" {len(set(reported))} events reported, {len(arrived)} arrived, {backlog} of them in the backlog;"
        f" {lost} lost, {disorder} out of order, {stale} stale on event, {without_end} faces without an end"
    )
    return int(bool(lost or disorder or stale or without_end))


if __name__ == "__main__":
    sys.exit(main())
