"""How long until `fer-edge` answers: its help, the first message and the first event of a run, and the memory then.

    python benchmarks/startup.py

Medians of a few runs, each in a process of its own, after one that warms the disk cache.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

FER_EDGE = (sys.executable, "-m", "fer_edge.cli")
RUNS = 7


def seconds_to_help() -> float:
    """Start to end of `fer-edge --help`."""
    start = time.perf_counter()
    subprocess.run([*FER_EDGE, "--help"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - start


def run_demo() -> tuple[float, float, float]:
    """Seconds to the first message and to the first event of a run, and its resident memory then, in megabytes."""
    start = time.perf_counter()
    command = [*FER_EDGE, "run", "--source", "demo", "--node", "bench"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101
        process.stdout.readline()
        message = time.perf_counter() - start
        while b"/event" not in process.stdout.readline():
            pass
        event = time.perf_counter() - start
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        resident = int(status.partition("VmRSS:")[2].split()[0]) / 1e3
        process.terminate()
    return message, event, resident


def main() -> None:
    """Measure and print."""
    seconds_to_help()
    print(f"--help          {statistics.median(seconds_to_help() for _ in range(RUNS)):.2f} s")
    run_demo()
    message, event, resident = (
        statistics.median(values) for values in zip(*(run_demo() for _ in range(RUNS)), strict=True)
    )
    print(f"first message   {message:.2f} s")
    print(f"first event     {event:.2f} s (the demo shows its first face for 0.2 s before that)")
    print(f"resident memory {resident:.0f} MB")


if __name__ == "__main__":
    main()
