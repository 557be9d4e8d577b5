"""Switch a node off and on at random between restarts, kills and outages, and watch that its camera obeys.

    python -m tests.device.switch_soak --sequences 50

The broker is a real Mosquitto and the camera one of the network. Whether the camera is open is read from the system's
table of connections. After the node has reported OFF, there must be none until an ON was sent to it while it ran. An ON
that was retained while it did not run must never be obeyed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge_device.messages import MessageFactory
from tests.device.brokers import Gate, Mosquitto, Subscriber, wait_for
from tests.device.servers import Http, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.messages import Kind

TOPICS = MessageFactory("one")
ONLINE = TOPICS.topic("availability")
ESTABLISHED = "01"
RESEND_S = 10.0


def open_connections(port: int) -> int:
    """Return the number of connections of this machine to a port, as its clients see them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[2].split(":")[1], 16) == port and row[3] == ESTABLISHED for row in rows)


@dataclass
class Figures:
    """What the soak has done and found."""

    actions: Counter[str] = field(default_factory=Counter)
    samples_while_off: int = 0
    violations: list[str] = field(default_factory=list)
    off_s: list[float] = field(default_factory=list)
    on_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the figures in lines."""
        done = ", ".join(f"{count} {name}" for name, count in sorted(self.actions.items()))
        times = [
            f"{name} median {statistics.median(values):.2f} s, maximum {max(values):.2f} s, {len(values)} measured"
            for name, values in (("OFF until closed:", self.off_s), ("ON until online:", self.on_s))
            if values
        ]
        found = [f"{self.samples_while_off} samples while off", f"{len(self.violations)} violations", *self.violations]
        return "\n".join([done, *times, *found])


class Soak:
    """A node, its broker and its camera, and a thread that watches them."""

    def __init__(self, folder: Path, camera_port: int, broker: Mosquitto, gate: Gate, seed: int) -> None:
        self.figures = Figures()
        self._chance = random.Random(seed)  # noqa: S311 - no secret
        self._port, self._broker, self._gate = camera_port, broker, gate
        self._config, self._log = folder / "config.toml", folder / "log"
        self._config.write_text(
            f'node = "one"\n[camera]\nsource = "http://127.0.0.1:{camera_port}/video"\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{gate.port}"\n[outbox]\npath = "{folder}/outbox.sqlite"\n'
            "[log]\nmessages = false\n"
        )
        self._runner: subprocess.Popen[bytes] | None = None
        self._subscriber = Subscriber()
        self._connecting_since = 0  # the number of messages that had been received
        self._last_report = b""  # of the switch
        self._on_was_sent = False  # to this process
        self._pending_on = 0  # how often ON was sent that this process may still obey
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._history: list[str] = []

    def run(self, sequences: int) -> Figures:
        """Run some sequences of random actions, each from a start to a proof that the node still obeys."""
        self._connect()
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            for _ in range(sequences):
                self._run_sequence()
        finally:
            self._ended.set()
            watcher.join()
            self._stop(kill=True)
            self._subscriber.drop()
        self.figures.violations += [line for line in self._log.read_text().splitlines() if "Traceback" in line]
        return self.figures

    def _run_sequence(self) -> None:
        actions: list[Callable[[], None]] = [
            *[lambda: self._command(on=False)] * 5,
            *[lambda: self._command(on=True)] * 2,
            lambda: self._restart(kill=True),
            lambda: self._restart(kill=True),
            lambda: self._restart(kill=False),
            self._restart_broker,
        ]
        self.figures.actions["sequences"] += 1
        self._history.clear()
        self._start()
        for _ in range(self._chance.randint(3, 6)):
            self._chance.choice(actions)()
            time.sleep(self._chance.choice((0.0, 0.05, self._chance.uniform(0, 2))))
        self._prove(on=False)
        self._prove(on=True)
        if self.figures.actions["sequences"] % 2:  # the next one starts switched off
            self._prove(on=False)
        self._stop(kill=self._chance.random() < 0.5)

    def _prove(self, *, on: bool) -> None:
        """Send a command until it is obeyed, and measure how long that takes."""
        value = "ON" if on else "OFF"
        wait_for(self._is_connected, "the node's connection")
        if self._reported("camera") == ("online" if on else "disabled"):
            return
        start, attempts = 0.0, 0

        def is_obeyed() -> bool:
            nonlocal start, attempts
            if self._reported("camera") == ("online" if on else "disabled"):
                return True
            if time.monotonic() - start > RESEND_S:  # the node may have lost its connection without anybody's notice
                start, attempts = time.monotonic(), attempts + 1
                self._send(on=on, retain=self._chance.random() < 0.5)
            return False

        wait_for(is_obeyed, f"{value} to be obeyed")
        self.figures.actions["commands sent again"] += attempts - 1
        (self.figures.on_s if on else self.figures.off_s).append(time.monotonic() - start)
        self._history.append(f"proved {value}")
        if not on:  # watch for a while
            with self._lock:
                self._pending_on = 0  # commands are obeyed in order
            time.sleep(0.5)

    def _command(self, *, on: bool) -> None:
        runs = self._runner is not None
        if runs and self._chance.random() < 0.8:  # otherwise it may meet a node that is starting or has no connection
            wait_for(self._is_connected, "the node's connection")
        retain = self._chance.random() < (0.5 if runs else 0.9)
        value = "ON" if on else "OFF"
        self.figures.actions[value] += 1
        self._history.append(f"{value}{' retained' * retain}{'' if runs else ' while the node is down'}")
        self._send(on=on, retain=retain)

    def _send(self, *, on: bool, retain: bool) -> None:
        if on and self._runner:
            with self._lock:
                self._on_was_sent = True
                self._pending_on += 1
        self._subscriber.publish(TOPICS.topic("enabled/set"), "ON" if on else "OFF", retain=retain)

    def _restart(self, *, kill: bool) -> None:
        self.figures.actions["kills" if kill else "restarts"] += 1
        self._history.append("kill" if kill else "restart")
        self._stop(kill=kill)
        was_off = self._last_report == b"OFF" and not self._pending_on
        if self._chance.random() < 0.8:  # what is sent meanwhile
            self._command(on=self._chance.random() < 0.8)
        self._start()
        if was_off:
            self.figures.actions["starts after OFF"] += 1
            wait_for(self._is_connected, "the node's connection")
            time.sleep(0.3)  # for what the broker has retained

    def _restart_broker(self) -> None:
        self.figures.actions["broker kills"] += 1
        self._history.append("broker kill")
        self._gate.target = None
        self._broker.kill()
        self._subscriber.wait_for_end()
        time.sleep(self._chance.uniform(0, 1))
        self._broker.start()
        self._connecting_since = len(self._subscriber.received)
        self._connect()

    def _connect(self) -> None:
        self._subscriber.connect(self._broker.port)
        self._gate.target = self._broker.port

    def _start(self) -> None:
        run = (sys.executable, "-m", "fer_edge.cli", "run", "--config", str(self._config))
        self._connecting_since = len(self._subscriber.received)
        with self._log.open("ab") as log:
            self._runner = subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=log)

    def _stop(self, *, kill: bool) -> None:
        if self._runner is None:
            return
        if kill:
            self._runner.kill()
        else:
            self._runner.terminate()
        status = self._runner.wait(60)
        if not kill and status not in {
            0,
            -signal.SIGTERM,
            128 + signal.SIGTERM,
        }:  # the others before its loop has begun
            self._report(f"exit status {status} after SIGTERM")
        self._runner = None
        with self._lock:
            if self._pending_on:
                self._last_report = b""  # it may have obeyed the ON without a report
            self._on_was_sent, self._pending_on = False, 0

    def _is_connected(self) -> bool:
        assert self._runner
        assert self._runner.poll() is None, self._log.read_text()[-2000:]
        said = [each.payload for each in self._subscriber.received[self._connecting_since :] if each.topic == ONLINE]
        return said[-1:] == [b"online"]

    def _reported(self, kind: Kind) -> str:
        payloads = self._subscriber.payloads(TOPICS.topic(kind))
        return payloads[-1].decode() if payloads else ""

    def _watch(self) -> None:
        """Look at the camera's connections again and again, and at what the node reports."""
        seen = 0
        while not self._ended.wait(0.002):
            received = self._subscriber.received
            with self._lock:
                while seen < len(received):
                    message = received[seen]
                    seen += 1
                    if message.topic != TOPICS.topic("enabled/state") or message.retained:
                        continue
                    if (self._last_report, message.payload) == (b"OFF", b"ON") and not self._on_was_sent:
                        self._report(f"ON without a command after {self._history}")
                    if (self._last_report, message.payload, self._pending_on) == (b"OFF", b"ON", 1):
                        self._pending_on = 0  # with more of them, it is not known which was obeyed
                    self._last_report = message.payload
                if self._last_report != b"OFF" or self._pending_on:
                    continue
                self.figures.samples_while_off += 1
                if count := open_connections(self._port):
                    self._report(f"{count} open after {self._history}")
                    self._last_report = b""  # one violation is reported once

    def _report(self, violation: str) -> None:
        self.figures.violations.append(violation)


def soak(folder: Path, sequences: int, seed: int) -> Figures:
    """Run the soak in an empty folder."""
    with serving(Http) as camera, Gate() as gate, Mosquitto(folder / "broker") as broker:
        return Soak(folder, camera.port, broker, gate, seed).run(sequences)


def main() -> int:
    """Run the soak and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sequences", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        figures = soak(folder, options.sequences, options.seed)
        sys.stdout.write(f"{figures}\n")
    return bool(figures.violations)


if __name__ == "__main__":
    sys.exit(main())
