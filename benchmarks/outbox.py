"""Measure how long the camera's thread waits for the disk when a frame has events.

    python benchmarks/outbox.py [--folder DIR] [--frames 200] [--events 3]

Two ways take turns, frame by frame, so that both meet the same load: each event is stored in a transaction of its own
before the next frame, as the runner once did; or all events of a frame are handed to the thread that writes them. The
file lies in the folder that is given, which decides the result: an SD card is far slower than an SSD.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fer_edge_device.config.settings import OutboxSettings
from fer_edge_device.messages import Event, MessageFactory
from fer_edge_device.mqtt.event_writer import EventWriter
from fer_edge_device.mqtt.outbox import Outbox, since_boot
from fer_edge_device.mqtt.outbox_events import NewEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge_device.messages import Message

FRAME_INTERVAL = 0.1  # seconds
LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


def make_event(number: int) -> Event:
    """Return an event of the usual size."""
    return Event(
        event_type="update",
        id=f"soak-{number % 8}",
        time=float(number),
        emotion="happy",
        score=0.8734,
        scores=dict.fromkeys(LABELS, 0.1429),
        previous="sad",
        box=(0.1425, 0.2162, 0.1656, 0.2779),
        duration_s=4.7,
        model="edge-81c3f00a",
    )


def store_each(outbox: Outbox, messages: Sequence[Message]) -> float:
    """Store each event in a transaction of its own, and return the milliseconds."""
    start = time.perf_counter()
    for message in messages:
        outbox.put([NewEvent(message.topic, message.body(), since_boot(), "", 0.0, is_end=True)])
    return (time.perf_counter() - start) * 1e3


def hand_over(writer: EventWriter, messages: Sequence[Message]) -> float:
    """Hand the events to the writer's thread, and return the milliseconds."""
    start = time.perf_counter()
    writer.put(messages)
    return (time.perf_counter() - start) * 1e3


def describe(name: str, milliseconds: list[float]) -> str:
    """Return a line of figures."""
    ordered = sorted(milliseconds)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return f"{name:<30} median {statistics.median(ordered):8.3f} ms, p95 {p95:8.3f}, maximum {ordered[-1]:8.3f}"


def main() -> None:
    """Measure both ways and print their ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path(), help="folder for the files")
    parser.add_argument("--frames", type=int, default=200, help="frames of each way")
    parser.add_argument("--events", type=int, default=3, help="events of a frame")
    options = parser.parse_args()
    factory = MessageFactory("soak")
    each: list[float] = []
    handed: list[float] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        first, second = (Outbox(Path(name, file), OutboxSettings()) for file in ("first.sqlite", "second.sqlite"))
        writer = EventWriter(second, lambda: None)
        for number in range(options.frames):
            messages = [factory.event(make_event(number * options.events + index)) for index in range(options.events)]
            each.append(store_each(first, messages))
            handed.append(hand_over(writer, messages))
            writer.wait_until_stored()
            time.sleep(FRAME_INTERVAL / 10)
        writer.close(60)
        first.close()
        second.close()
    print(describe("stored one by one", each))
    print(describe("handed to the thread", handed))
    print(f"ratio of the medians: {statistics.median(each) / statistics.median(handed):.0f}")


if __name__ == "__main__":
    main()
