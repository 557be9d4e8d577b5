"""Measure what the camera's own process costs, and compare ways to start it.

    python benchmarks/camera_process.py [--fps 10] [--seconds 20] [--rounds 2] [--starts 5]

Another process serves images of 640x480 that hold their numbers, as Motion JPEG over HTTP, and notes when it sends one.
Two readers take turns: one reads the camera in a thread of this process, as fer-edge did before, the other in a process
of its own. For each, the script prints the median and the 95th percentile of the time from sending an image to having
its pixels here. It also prints the share of one core that all processes took, and the memory that reading adds, as the
growth of their proportional set size. Then it prints the time to the first frame, and the memory that an interpreter
adds which has loaded what each kind of camera needs. For the ways of `multiprocessing`, it prints the time to start a
process that has loaded the same, and the memory that it adds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import multiprocessing
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from fer_edge_device.capture.base import Frame, NoFrameYet, paced_frames
from fer_edge_device.capture.factory import make_source, make_timeouts
from fer_edge_device.capture.http_stream import HttpStream
from fer_edge_device.capture.supervisor import CameraReader
from fer_edge_device.config.settings import CameraSettings
from jpeg_server import serving_jpegs

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from fer_edge_device.capture.base import FrameSource
    from fer_edge_device.capture.channel import FromCamera
    from fer_edge_device.messages import CameraStatus
    from jpeg_server import JpegServer

_BITS: Final = 16
# What the process needs for each kind of camera.
_KINDS: Final = {
    "a USB camera": ("fer_edge_device.capture.child", "fer_edge_device.capture.opencv"),
    "a stream over HTTP": ("fer_edge_device.capture.child", "fer_edge_device.capture.http_stream"),
}
_MODULES: Final = _KINDS["a stream over HTTP"]


def image_of(number: int) -> bytes:
    """Return a JPEG that holds a number in its first row of blocks."""
    image = cv2.resize(np.random.default_rng(number).integers(60, 200, (30, 40), np.uint8), (640, 480))
    for bit in range(_BITS):
        image[:32, bit * 40 : bit * 40 + 40] = 255 * (number >> bit & 1)
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))[1].tobytes()


def number_in(gray: npt.NDArray[np.uint8]) -> int:
    """Return the number that an image holds."""
    return sum(int(gray[16, bit * 40 + 20] > 127) << bit for bit in range(_BITS))


class ReaderThread:
    """A camera that a thread of this process reads."""

    live = True
    status: CameraStatus = "online"

    def __init__(self, settings: CameraSettings) -> None:
        """Open a stream."""
        self.wanted, self.not_before = False, 0.0
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._closing = threading.Event()
        device = HttpStream(settings)
        reader = CameraReader("stream", settings.source, device, make_timeouts(settings), self)
        self._thread = threading.Thread(target=self._read, args=(reader,))
        self._thread.start()

    def _read(self, reader: CameraReader) -> None:
        with contextlib.suppress(EOFError):
            reader.run()

    def read(self, not_before: float = 0.0) -> Frame:
        """Return the next frame."""
        self.not_before, self.wanted = not_before, True
        try:
            return self._frames.get(timeout=0.1)
        except queue.Empty:
            raise NoFrameYet from None

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()

    def give(self, gray: npt.NDArray[np.uint8], number: int, time: float, epoch: float, dropped: int) -> None:
        """Take a frame from the thread."""
        self.wanted = False
        self._frames.put(Frame(gray, time, number, epoch, dropped))

    def check(self) -> None:
        """End the thread when the camera is closed."""
        if self._closing.is_set():
            raise EOFError

    def take_missed(self) -> bool:
        """Return that every frame was taken."""
        return False

    def expect(self, seconds: float) -> None:
        """Do nothing: a thread cannot be killed."""

    def send(self, message: FromCamera) -> None:
        """Do nothing."""

    def wait(self, seconds: float) -> None:
        """Do nothing."""

    def note_frame(self, number: int, time: float) -> None:
        """Do nothing."""


def open_in_process(settings: CameraSettings) -> FrameSource:
    """Open a stream as fer-edge does."""
    source = make_source(settings, wait=True)
    source.open()
    return source


def cpu_seconds(processes: list[int]) -> float:
    """Return the processor time of all threads of some processes."""
    total = 0
    for process in processes:
        for task in Path("/proc", str(process), "task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def memory_mb() -> float:
    """Return the proportional set size of this process and all its descendants together, in megabytes.

    The server is one of them. Without it, its part of the libraries that all of them map would depend on the others.
    """
    total = 0
    for process in family():
        for line in Path("/proc", str(process), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total * 1024 / 1e6


def family(without: int | None = None) -> list[int]:
    """Return this process and its descendants, if wanted without one and its own."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process and child != without]
    return found


def measure(
    source: FrameSource,
    sent: Any,  # noqa: ANN401 - a shared array
    fps: float,
    seconds: float,
    server: int,
) -> tuple[list[float], float, float]:
    """Return the latencies of the frames in milliseconds, the share of a core, and the memory of all processes."""
    latencies: list[float] = []
    processes = family(server)
    used = start = 0.0
    for frame in paced_frames(source, lambda: 1 / fps):
        now = time.monotonic()
        latencies.append(1000 * (now - sent[number_in(frame.gray)]))
        if len(latencies) == 10:  # everything has been loaded
            start, used = now, cpu_seconds(processes)
        if start and now - start > seconds:
            break
    share = (cpu_seconds(processes) - used) / (time.monotonic() - start)
    return latencies[10:], share, memory_mb()


def measure_loading(modules: tuple[str, ...]) -> float:
    """Return the memory that an interpreter adds which has loaded some modules."""
    before = memory_mb()
    program = f"import {', '.join(modules)}; print(flush=True); input()"
    command = [sys.executable, "-P", "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own
        if process.stdout:
            process.stdout.readline()
        added = memory_mb() - before
        process.communicate(b"\n")
    return added


def work(ready: Any, ended: Any) -> None:  # noqa: ANN401 - events
    """Load what the camera's process needs, and wait."""
    for module in _MODULES:
        importlib.import_module(module)
    ready.set()
    ended.wait()


def measure_start(method: str) -> tuple[float, float]:
    """Return how many seconds a way of `multiprocessing` takes to start a process, and the memory that it adds."""
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(list(_MODULES))
    before = memory_mb()
    start = time.monotonic()
    ready, ended = context.Event(), context.Event()
    process = context.Process(target=work, args=(ready, ended))  # type: ignore[attr-defined]
    process.start()
    ready.wait()
    seconds = time.monotonic() - start
    added = memory_mb() - before
    ended.set()
    process.join()
    return seconds, added


def compare(server: JpegServer, fps: float, seconds: float, rounds: int) -> None:
    """Read a stream in a thread and in a process in turn, and print what each costs."""
    settings = CameraSettings(source=server.address, fps=fps)
    importlib.import_module("fer_edge_device.app")  # a runner has all of this loaded
    readers: list[tuple[str, Callable[[CameraSettings], FrameSource]]] = [
        ("thread", ReaderThread),
        ("process", open_in_process),
    ]
    for name, open_source in readers * rounds:
        before = memory_mb()
        source = open_source(settings)
        latencies, share, memory = measure(source, server.sent, fps, seconds, server.process)
        source.close()
        p95 = statistics.quantiles(latencies, n=20)[-1]
        print(
            f"{name}: latency {statistics.median(latencies):.2f} ms, p95 {p95:.2f} ms;"
            f" {100 * share:.2f} % of a core; {memory - before:.1f} MB"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fps", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    with serving_jpegs([image_of(number) for number in range(256)], options.fps) as server:
        compare(server, options.fps, options.seconds, options.rounds)
        settings = CameraSettings(source=server.address, fps=options.fps)
        for _ in range(options.starts):
            start = time.monotonic()
            source = open_in_process(settings)
            print(f"process: first frame after {time.monotonic() - start:.2f} s")
            source.close()
        for kind, modules in _KINDS.items():
            print(f"interpreter for {kind}: {measure_loading(modules):.1f} MB more")
        for method in ("spawn", "forkserver"):  # the latter's first start includes the server's, and its helper stays
            for _ in range(options.starts):
                seconds, added = measure_start(method)
                print(f"{method}: started after {seconds:.2f} s, {added:.1f} MB more")


if __name__ == "__main__":
    main()
