"""Measure the time to the help, to an image in Python and to a run's first message and event, and a run's memory.

    python benchmarks/startup.py [--runs 7] [--seconds 8]

Prints medians of a few runs. Each run is a new process; one more run before them warms the disk cache. Memory is
the resident memory of /proc/PID/statm, which includes shared pages of libraries, after ``--seconds`` of the demo at
640x480 with the shipped model and detector. The private part of it (Private in smaps_rollup) is printed beside it.
The import of the Python API and its first image are measured within their process, without the start of Python. The
exit status is 1 if the first message takes more than 1 s, the import 0.05 s or the image 0.35 s, or if memory reaches
130 MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

import cv2

from fer_edge import demo

FER_EDGE: Final = (sys.executable, "-m", "fer_edge.cli")
MAX_SECONDS: Final = 1.0
MAX_IMPORT: Final = 0.05
MAX_IMAGE: Final = 0.35
MAX_MB: Final = 130.0


IMPORT: Final = "from fer_edge import load"
IMAGE: Final = "import fer_edge; assert fer_edge.load('edge')(r'{}')"


class StartTimes(NamedTuple):
    """One start, in seconds and megabytes."""

    message: float
    cpu: float
    event: float
    resident: float
    private: float


def time_help() -> float:
    """Start to end of `fer-edge --help`."""
    start = time.perf_counter()
    subprocess.run([*FER_EDGE, "--help"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - start


def seconds_within(code: str) -> float:
    """Return the seconds that some lines take in a fresh process, without its start."""
    script = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def run_demo(seconds: float) -> StartTimes:
    """Start a run, read its messages for some seconds, and then measure its memory."""
    start = time.perf_counter()
    command = [*FER_EDGE, "run", "--source", "demo", "--node", "bench"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        assert process.stdout is not None  # noqa: S101
        process.stdout.readline()
        message = time.perf_counter() - start
        cpu = cpu_seconds(process.pid)
        while b"/event" not in process.stdout.readline():
            pass
        event = time.perf_counter() - start
        time.sleep(max(0.0, seconds - event))
        resident, private = memory_mb(process.pid)
        process.terminate()
    return StartTimes(message, cpu, event, resident, private)


def cpu_seconds(process: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process: int) -> tuple[float, float]:
    """Return the resident memory of a process and the private part of it, in megabytes."""
    statm = Path(f"/proc/{process}/statm").read_text(encoding="ascii")
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    private = sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6, private * 1024 / 1e6


def main() -> int:
    """Measure, print and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="starts of each kind")
    parser.add_argument(
        "--seconds", type=float, default=8.0, help="from the start of a run to the measurement of its memory"
    )
    options = parser.parse_args()
    time_help()
    print(f"--help          {statistics.median(time_help() for _ in range(options.runs)):.2f} s")
    in_python = []
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.jpg"
        cv2.imwrite(str(image), demo.frame(60))
        for name, code in (("import", IMPORT), ("first image", IMAGE.format(image))):
            seconds_within(code)
            in_python.append(statistics.median(seconds_within(code) for _ in range(options.runs)))
            print(f"{name:<16}{in_python[-1]:.3f} s in Python")
    run_demo(0)
    starts = [run_demo(options.seconds) for _ in range(options.runs)]
    median = StartTimes(*(statistics.median(values) for values in zip(*starts, strict=True)))
    print(f"first message   {median.message:.2f} s, {median.cpu:.2f} s of the processor's time till then")
    print(f"first event     {median.event:.2f} s (the demo shows its first face for 0.2 s before that)")
    print(
        f"resident memory {median.resident:.0f} MB after {options.seconds:g} s, {median.private:.0f} MB of it its own"
    )
    slow = in_python[0] > MAX_IMPORT or in_python[1] > MAX_IMAGE
    return int(slow or median.message > MAX_SECONDS or median.resident >= MAX_MB)


if __name__ == "__main__":
    sys.exit(main())
