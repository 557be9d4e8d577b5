"""Test standard output with readers that stall, read on, are slow or leave."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fer_edge_device.messages import MessageFactory, Stats
from fer_edge_device.sinks import JsonLinesSink, SinkClosed
from tests.device.brokers import TIMEOUT, Mosquitto, subscribing, wait_for
from tests.device.test_app import blinking
from tests.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

    from fer_edge_device.messages import Message

MESSAGES = MessageFactory("one")


def message(number: int) -> Message:
    return MESSAGES.stats(
        Stats(time=number, fps=1, stages={}, skipped=0, dropped=0, temp_c=None, throttled=None, rss_mb=1, queued=0)
    )


def numbers(lines: bytes) -> list[int]:
    assert lines.endswith(b"\n")
    return [int(json.loads(line)["payload"]["time"]) for line in lines.splitlines()]


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Return a reader and a writer of a pipe that holds one page."""
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    with os.fdopen(ends[0], "rb") as reader, os.fdopen(ends[1], "wb", 0) as writer:
        yield reader, writer


def test_stalled_reader_costs_the_oldest_lines_which_are_counted(
    pipe: tuple[BinaryIO, BinaryIO], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    sink = JsonLinesSink(writer)
    for number in range(5000):
        sink.publish(message(number))
    assert caplog.text.count("standard output: its reader has stalled") == 1
    received = bytearray()
    thread = threading.Thread(target=lambda: received.extend(reader.read()))
    thread.start()
    wait_for(lambda: "reads again;" in caplog.text, "the reader to catch up")
    sink.publish(message(5000))
    sink.close()
    writer.close()
    thread.join()
    order = numbers(bytes(received))
    assert order == sorted(order)
    assert order[-1001:] == list(range(4000, 5001))
    found = re.search(r"its reader reads again; (\d+) messages not written", caplog.text)
    assert found
    assert int(found[1]) == 5001 - len(order)
    assert caplog.text.count("standard output") == 2


def test_closing_does_not_wait_for_a_stalled_reader(
    pipe: tuple[BinaryIO, BinaryIO], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    before = set(threading.enumerate())
    sink = JsonLinesSink(writer)
    for number in range(100):
        sink.publish(message(number))
    sink.close()
    assert set(threading.enumerate()) <= before
    found = re.search(r"its reader has stalled; (\d+) messages not written", caplog.text)
    assert found
    writer.close()
    # The last line may be cut, as when any program is stopped in the middle of its output.
    assert reader.read().count(b"\n") == 100 - int(found[1])


def test_closing_waits_for_a_slow_reader(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    sink = JsonLinesSink(writer)
    for number in range(100):
        sink.publish(message(number))
    received = bytearray()

    def read_slowly() -> None:
        while part := os.read(reader.fileno(), 4096):
            received.extend(part)
            time.sleep(0.01)

    thread = threading.Thread(target=read_slowly)
    thread.start()
    sink.close(60)
    writer.close()
    thread.join()
    assert numbers(bytes(received)) == list(range(100))


def test_waits_for_the_reader_if_no_line_may_be_lost(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    stopped = threading.Event()
    sink = JsonLinesSink(writer, wait=lambda: not stopped.is_set())
    published = 0

    def publish() -> None:
        nonlocal published
        for number in range(3000):
            sink.publish(message(number))
            published += 1

    thread = threading.Thread(target=publish)
    thread.start()
    wait_for(lambda: published > 1000, "the queue to fill")
    received = [reader.readline() for _ in range(1500)]
    assert numbers(b"".join(received)) == list(range(1500))
    assert published < 3000
    stopped.set()
    thread.join()
    sink.close()


def test_is_closed_when_its_reader_has_gone_or_the_disk_is_full(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    reader.close()
    before = set(threading.enumerate())
    sink = JsonLinesSink(writer)
    sink.publish(message(0))
    wait_for(lambda: set(threading.enumerate()) <= before, "the failure")
    with pytest.raises(SinkClosed, match=r"^$"):
        sink.publish(message(1))
    sink.close()
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        sink = JsonLinesSink(full)
        sink.publish(message(0))
        sink.close()
    assert sink.failure == "No space left on device"


@pytest.mark.parametrize("with_stderr", [False, True])
def test_output_that_nobody_reads_stops_neither_the_broker_nor_sigterm(tmp_path: Path, *, with_stderr: bool) -> None:
    video, config = blinking(tmp_path / "video"), tmp_path / "config.toml"
    ends = os.pipe()
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
    with Mosquitto(tmp_path / "broker") as broker, subscribing(broker.port) as subscriber:
        config.write_text(
            f'node = "one"\n[camera]\nsource = "{video}"\n[events]\nmin_hits = 1\nmax_age_s = 0.2\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n[outbox]\npath = "{tmp_path}/outbox.sqlite"\n'
            '[log]\nlevel = "debug"\n'
        )
        run = (sys.executable, "-m", "fer_edge.cli", "run", "--config", config, "--realtime")
        with Process(run, stdout=ends[1], stderr=ends[1] if with_stderr else subprocess.DEVNULL) as runner:
            # Far more than the pipe holds.
            wait_for(lambda: len(subscriber.payloads(MESSAGES.topic("event"))) > 12, "events")
            runner.send_signal(signal.SIGTERM)
            assert runner.wait(TIMEOUT) == 0
        wait_for(lambda: subscriber.payloads(MESSAGES.topic("availability"))[-1:] == [b"offline"], "the last word")
    for end in ends:
        os.close(end)
