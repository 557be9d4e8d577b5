"""Measure what the live page costs the runner: without it, with it, with viewers, and under attack.

    python benchmarks/live_page.py [--viewers 20] [--seconds 30] [--rounds 3] [--attack]
    python benchmarks/live_page.py --soak 1000000

A runner plays the demo in real time, without the page, with it, and with viewers who take every update and every
image. The three take turns. For each, the script prints the time to the first message, and the processor time of the
runner's first thread until then, which other programs on the machine hardly change. Then come the frames per second,
how late events come (time on the wall less time in the video; the earliest event of a run counts as 0), the runner's
memory and its share of a core. The last column is the share of a core that the viewers take here, on the same machine.

With ``--attack``, there are no viewers but thousands of connections that send nothing, half a header, garbage, or
headers without an end.

``--soak`` plays the demo that many frames long, at full speed, while two viewers come and go, and prints the memory,
the open files and the threads on the way, each while nobody looks. The exit status is 1 if memory grew by 2 MB or more
after the first tenth.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fer_edge import demo

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_GROWTH_MB: Final = 2.0
_ATTACKS: Final = (
    b"",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:",
    bytes(range(256)) * 4,
    b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 70_000,
)
_ATTACKERS: Final = 200  # at a time
_HOLD_S: Final = 2.0  # for which each keeps its connection


class Figures(NamedTuple):
    """What was measured in one run."""

    first_message_s: float
    first_processor_s: float
    fps: float
    median_delay_ms: float
    late_delay_ms: float
    memory_mb: float
    runner_share: float
    own_share: float


def processor_s(process: int) -> float:
    """Return the seconds of processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def first_thread_s(process: int) -> float:
    """Return the seconds of processor time of a process's first thread."""
    return int(Path(f"/proc/{process}/task/{process}/schedstat").read_text().split()[0]) / 1e9


def memory_mb(process: int) -> float:
    """Return the resident memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


class Running:
    """A runner that plays the demo."""

    def __init__(self, *options: str) -> None:
        """Start it.

        Args:
            options: more options of ``fer-edge run``.
        """
        command = [sys.executable, "-m", "fer_edge.cli", "run", "--source", "demo", "--loop", *options]
        self.started = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[tuple[float, dict[str, Any]]] = []
        self.port = 0
        self._has_port = threading.Event()
        for read in (self._read_messages, self._read_log):
            threading.Thread(target=read, daemon=True).start()

    def _read_messages(self) -> None:
        for line in self.process.stdout or ():
            self.lines.append((time.monotonic(), json.loads(line)))

    def _read_log(self) -> None:
        for line in self.process.stderr or ():
            if found := re.search(r"the page is at http://\S+:(\d+)/", line):
                self.port = int(found[1])
                self._has_port.set()

    def wait_for_port(self) -> int:
        """Return the port of the page."""
        if not self._has_port.wait(30):
            raise SystemExit("the page did not start")
        return self.port

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait()


async def look(port: int, until: float) -> None:
    """Take every update and every image, as a browser with the page open does."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            kind = b""
            while time.monotonic() < until and (line := await asyncio.wait_for(reader.readline(), 20)):
                if line.startswith(b"event: "):
                    kind = line[7:].strip()
                elif line.startswith(b"data: ") and kind == b"frame":
                    await take_image(port, json.loads(line[6:])["number"])
            writer.close()


async def take_image(port: int, number: int) -> None:
    """Take the image of a frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /api/image?after={number - 1} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    await asyncio.wait_for(reader.read(-1), 20)
    writer.close()


async def attack(port: int, until: float) -> None:
    """Open connections one after another that ask for nothing sensible."""
    number = 0
    while time.monotonic() < until:
        number += 1
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(_ATTACKS[number % len(_ATTACKS)])
            await asyncio.wait_for(reader.read(-1), _HOLD_S)
            writer.close()


def run_clients(client: Callable[[int, float], Awaitable[None]], count: int, port: int, seconds: float) -> None:
    """Run some clients for some seconds."""

    async def run() -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(client(port, until) for _ in range(count)))

    asyncio.run(run())


def measure(
    seconds: float, client: Callable[[int, float], Awaitable[None]] | None, clients: int, *, page: bool
) -> Figures:
    """Measure one run.

    Args:
        seconds: how long.
        client: what each client does; None: there are none.
        clients: how many.
        page: whether there is a page.
    """
    running = Running(*(("--web", "0") if page else ()))
    try:
        while not running.lines:
            time.sleep(0.01)
        first_processor = first_thread_s(running.process.pid)
        first = running.lines[0][0] - running.started
        port = running.wait_for_port() if page else 0
        time.sleep(2)
        began, before, own = time.monotonic(), processor_s(running.process.pid), time.process_time()
        if client:
            run_clients(client, clients, port, seconds)
        else:
            time.sleep(seconds)
        took = time.monotonic() - began
        share = (processor_s(running.process.pid) - before) / took
        memory = memory_mb(running.process.pid)
        own_share = (time.process_time() - own) / took
    finally:
        running.close()
    rates = [line["payload"]["fps"] for _, line in running.lines if line["topic"].endswith("/stats")]
    events = [
        arrived - line["payload"]["time"]
        for arrived, line in running.lines
        if line["topic"].endswith("/event") and arrived > began
    ]
    delays = sorted(1000 * (delay - min(events)) for delay in events)
    return Figures(
        first,
        first_processor,
        rates[-1],
        statistics.median(delays),
        delays[int(0.95 * len(delays))],
        memory,
        share,
        own_share,
    )


def compare(options: argparse.Namespace) -> int:
    """Print the table."""
    ways: list[tuple[str, Callable[[int, float], Awaitable[None]] | None, int, bool]] = [
        ("no page", None, 0, False),
        ("page, nobody looks", None, 0, True),
        (f"{options.viewers} viewers", look, options.viewers, True),
    ]
    if options.attack:
        ways[2:] = [("attack", attack, _ATTACKERS, True)]
    runs: dict[str, list[Figures]] = {name: [] for name, *_ in ways}
    for _ in range(options.rounds):
        for name, client, count, page in ways:
            runs[name].append(measure(options.seconds, client, count, page=page))
    print(
        "| | first message | processor until then | fps | events late, median | 95 % | memory | of a core"
        " | viewers' core |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, figures in runs.items():
        first, processor, fps, median, late, memory, share, own = (
            statistics.median(column) for column in zip(*figures, strict=True)
        )
        print(
            f"| {name} | {first:.2f} s | {processor:.2f} s | {fps:.2f} | {median:.0f} ms | {late:.0f} ms"
            f" | {memory:.1f} MB | {100 * share:.1f} % | {100 * own:.1f} % |"
        )
    return 0


def count(process: int, what: str) -> int:
    """Return how many entries a folder of a process has below ``/proc``: ``fd`` has its files, ``task`` its threads."""
    return len([*Path(f"/proc/{process}/{what}").iterdir()])


def soak(frames: int) -> int:
    """Play many frames while two viewers come and go."""
    running = Running("--web", "0", "--full-speed", "--min-face", "120", "--seconds", str(frames / demo.FPS))
    port, process = running.wait_for_port(), running.process.pid
    first = now = 0.0
    printed_at = -frames
    try:
        while running.process.poll() is None:
            for viewers in (1, 2):
                run_clients(look, viewers, port, 3.0)
            time.sleep(1)
            states = [line["payload"] for _, line in running.lines[-50:] if line["topic"].endswith("/state")]
            done = round(states[-1]["time"] * demo.FPS) if states else 0
            del running.lines[:-50]
            with contextlib.suppress(OSError):  # it has ended
                measured = memory_mb(process), count(process, "fd"), count(process, "task")
                if measured[0]:  # a process that ended and was not waited for has none
                    now, files, threads = measured
            first = first or (now if done > frames / 10 else 0.0)
            if done - printed_at >= frames / 20:
                printed_at = done
                print(f"{done:>8} frames: {now:.1f} MB, {files} files, {threads} threads", flush=True)
    finally:
        running.close()
    print(f"{now - first:+.2f} MB after the first tenth; at the end {files} files, {threads} threads")
    return int(now - first >= _GROWTH_MB)


def main() -> int:
    """Measure what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--viewers", type=int, default=20, help="how many look at once")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--attack", action="store_true", help="attackers instead of viewers")
    parser.add_argument("--soak", type=int, default=0, metavar="FRAMES", help="play so many frames, with two viewers")
    options = parser.parse_args()
    return soak(options.soak) if options.soak else compare(options)


if __name__ == "__main__":
    sys.exit(main())
