"""Measure how long `fer-edge fleet` takes at a real Mosquitto that keeps the messages of many nodes.

    python -m benchmarks.fleet [--nodes 200] [--rounds 5]

Run it from the repository's root in the development environment. Prints the seconds from the command to its exit, and
its processor time.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from fer_edge_device.messages import Info, MessageFactory, Stats
from tests.device.brokers import Mosquitto

if TYPE_CHECKING:
    from fer_edge_device.messages import Message

INFO = Info(version="0.1.0", model="edge", model_sha256="81c3f00a" * 8, labels=("angry", "happy"))


def retained(number: int) -> list[Message]:
    """Return what a broker keeps of a node."""
    messages = MessageFactory(f"node-{number:05}")
    stats = Stats(
        time=time.time(),
        fps=9.9,
        stages={},
        skipped=0,
        dropped=0,
        temp_c=61.0,
        throttled=0,
        rss_mb=90.0,
        queued=0,
    )
    return [
        messages.info(INFO),
        messages.camera("online"),
        messages.enabled(True),  # noqa: FBT003 - the payload
        messages.stats(stats),
        messages.availability("online"),
    ]


def publish(port: int, nodes: int) -> None:
    """Publish the messages of all nodes."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("localhost", port)
    client.loop_start()
    for number in range(nodes):
        for sent in [client.publish(each.topic, each.body(), 1, each.retain) for each in retained(number)]:
            sent.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def main() -> None:
    """Publish, then run the command again and again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    seconds = []
    with tempfile.TemporaryDirectory() as folder, Mosquitto(Path(folder)) as broker:
        publish(broker.port, options.nodes)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(options.rounds):
            start = time.monotonic()
            command = [sys.executable, "-m", "fer_edge.cli", "fleet", "--mqtt", f"mqtt://localhost:{broker.port}"]
            table = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own
            seconds.append(time.monotonic() - start)
            if not table.endswith(f"{options.nodes} nodes: {options.nodes} online\n"):
                raise SystemExit(f"not every node was found: {table.splitlines()[-1]}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / options.rounds
    print(
        f"{options.nodes} nodes: {statistics.median(seconds):.2f} s in the median of {options.rounds} runs,"
        f" {used:.2f} s of processor time"
    )


if __name__ == "__main__":
    main()
