"""Measure tagging: interruptions, memory, start and use of the cores.

    python benchmarks/tag.py kill [--images 10000] [--kills 10]
    python benchmarks/tag.py kill-worker [--images 10000]
    python benchmarks/tag.py memory [--images 1000 10000 100000]
    python benchmarks/tag.py start [--images 1000000]
    python benchmarks/tag.py rate [--images 3000]
    python benchmarks/tag.py share [--images 300] [--face]

`kill` tags generated images of several formats, 3 % of them damaged, once without interruption and once with SIGKILLs
at random times. Both tables must be the same, and every damaged image must be listed; otherwise the exit status is 1.
`kill-worker` does the same on a Dask cluster of two workers on this machine, one of which is killed half-way. `memory`
prints the peak resident memory of the main process and of the largest worker. `start` prints how long it takes until
the first image of a large folder is done, and the memory by then. `rate` prints images a second with one worker and
with two. `share` prints the shares of a worker's time that go into decoding, shrinking and inference, including the
detector's; the rest is Python.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge import demo
from fer_edge.classification.labels import FER2013
from fer_edge.geometry import Box
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.tagging.input.listing import count_images
from fer_edge.tagging.input.source import Source
from fer_edge.tagging.options import TagOptions
from fer_edge.tagging.output.destinations import Outputs
from fer_edge.tagging.run import tag
from fer_edge.tagging.worker import process

if TYPE_CHECKING:
    from fer_edge.tagging.records import SourceResult

FER_EDGE: Final = (sys.executable, "-m", "fer_edge.cli", "tag")
OPTIONS: Final = TagOptions(model=str(DEFAULT_MODEL))
ENDINGS: Final = (".jpg", ".png", ".webp", ".tif", ".bmp")
LINKS: Final = 50_000  # of one file: file systems set a limit
DAMAGED: Final = 33  # one image in 33
WORK: Final = {
    "decoding": ("imdecode",),
    "shrinking": ("resize", "cvtColor"),
    "inference": ("Invoke",),  # of the detector's network and of the classifier's
}


def encode_images(columns: int, rows: int) -> list[tuple[str, bytes]]:
    """Return images with a face of each emotion, in each format."""
    found = []
    for emotion in FER2013:
        image = np.asarray(cv2.resize(demo.wall(), (columns, rows)), np.uint8)
        side = rows * 0.7
        demo.paste(image, demo.face(emotion), Box((columns - side) / 2, rows * 0.15, side, side))
        found += [(ending, cv2.imencode(ending, image)[1].tobytes()) for ending in ENDINGS]
    return found


def make(folder: Path, images: int, columns: int = 96, rows: int = 72, damaged: int = 0) -> int:
    """Fill a folder with links to a few files; return the number of damaged images."""
    originals = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        for copy in range(images // LINKS + 1):
            for number, (ending, data) in enumerate(encode_images(columns, rows)):
                whole, cut = Path(place, f"{copy}-{number}{ending}"), Path(place, f"{copy}-{number}-cut{ending}")
                whole.write_bytes(data)
                cut.write_bytes(data[:40])
                originals.append((ending, whole, cut))
        broken = 0
        for number in range(images):
            ending, whole, cut = originals[number % len(originals)]
            bad = bool(damaged) and number % damaged == 5
            broken += bad
            os.link(cut if bad else whole, folder / f"{number:07d}{ending}")
    return broken


def kill(images: int, kills: int) -> int:
    """Compare a run that is killed with an uninterrupted one; return the exit status."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        seconds, right = tag_without_interruption(folder, images)
        draw = random.Random(1)  # noqa: S311 - no secret
        command = [*FER_EDGE, str(folder), "--out", f"{place}/killed.csv"]
        done = 0
        while done < kills and not Path(place, "killed.csv").exists():
            with subprocess.Popen(command) as process:  # noqa: S603
                while not Path(place, "killed.csv.part").exists() and process.poll() is None:
                    time.sleep(0.02)
                time.sleep(draw.uniform(1, 1 + 2 * seconds / kills))
                process.send_signal(signal.SIGKILL)
            done += 1
        if not Path(place, "killed.csv").exists():
            subprocess.run(command, check=True)  # noqa: S603
        return int(not same(folder, f"killed {done} times") or not right)


def kill_worker(images: int) -> int:
    """Compare a run on a cluster that loses a worker with one without a cluster; return the exit status."""
    from distributed import LocalCluster  # noqa: PLC0415 - an extra

    with (
        tempfile.TemporaryDirectory() as place,
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
    ):
        folder = Path(place, "images")
        _, right = tag_without_interruption(folder, images)
        with cluster.get_client() as client:
            victim = min(client.run(os.getpid).values())
        count = 0

        def on_result(_result: SourceResult | None) -> None:
            nonlocal count
            count += 1
            if count == images // 2:
                os.kill(victim, signal.SIGKILL)

        out = Outputs(f"{place}/killed.csv")
        tag([str(folder)], out, OPTIONS, cluster=cluster.scheduler_address, on_result=on_result)
        return int(not same(folder, f"worker {victim} of two killed after {images // 2} images") or not right)


def tag_without_interruption(folder: Path, images: int) -> tuple[float, bool]:
    """Make images and tag them; return the seconds, and whether all damaged images are listed."""
    folder.mkdir()
    broken = make(folder, images, damaged=DAMAGED)
    began = time.monotonic()
    whole = tag([str(folder)], Outputs(str(folder.with_name("whole.csv"))), OPTIONS, processes=2)
    seconds = time.monotonic() - began
    print(f"{whole.images} images in {seconds:.0f} s; {whole.errors} errors of {broken} damaged images")
    return seconds, (whole.images, whole.errors) == (images, broken)


def same(folder: Path, description: str) -> bool:
    """Return whether an interrupted run gave the table of the uninterrupted one, and print it."""
    whole, killed = (folder.with_name(name).read_bytes() for name in ("whole.csv", "killed.csv"))
    print(f"{description}: {'the same table' if whole == killed else 'ANOTHER TABLE'}")
    return whole == killed


def peak_mb(process: int | str = "self") -> float:
    """Return the peak resident memory of a process, in megabytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def print_memory(folder: Path) -> None:
    """Tag a folder of face crops and print the peak memory."""
    workers = 0.0
    count = 0

    def on_result(_result: SourceResult | None) -> None:
        nonlocal workers, count
        count += 1
        if count % 50 == 0:
            workers = max([workers, *(peak_mb(child.pid or 0) for child in multiprocessing.active_children())])

    began = time.monotonic()
    summary = tag(
        [str(folder)],
        Outputs(f"{folder}.csv"),
        msgspec.structs.replace(OPTIONS, face=True),
        processes=2,
        on_result=on_result,
    )
    rate = summary.images / (time.monotonic() - began)
    print(f"{summary.images:>8} images: {peak_mb():.0f} MB, a worker {workers:.0f} MB, {rate:.0f} images/s")


def first(folder: Path) -> None:
    """Print the time until the first image is done."""
    began = time.monotonic()
    process_began = time.process_time()

    def on_result(_result: SourceResult | None) -> None:
        raise KeyboardInterrupt

    try:
        tag([str(folder)], Outputs(f"{folder}.csv"), OPTIONS, processes=1, on_result=on_result)
    except KeyboardInterrupt:
        used = time.process_time() - process_began
        print(f"first image after {time.monotonic() - began:.1f} s ({used:.1f} s of the processor), {peak_mb():.0f} MB")
    began = time.monotonic()
    print(f"{count_images([str(folder)])} names counted in {time.monotonic() - began:.1f} s")


def in_process(job: object, *args: object) -> None:
    """Run a function in a new process, so that its peak memory is measured alone."""
    process = multiprocessing.get_context("spawn").Process(target=job, args=args)  # type: ignore[arg-type]
    process.start()
    process.join()


def rate(images: int) -> None:
    """Compare the rates of one worker and of two."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        folder.mkdir()
        make(folder, images, 640, 480)
        rates = []
        for workers in (1, 2, 1, 2):
            began = time.monotonic()
            tag([str(folder)], Outputs(f"{place}/{workers}.csv", overwrite=True), OPTIONS, processes=workers)
            rates.append(images / (time.monotonic() - began))
            print(f"{workers} workers: {rates[-1]:.1f} images/s")
        print(f"two over one: {(rates[1] + rates[3]) / (rates[0] + rates[2]):.2f}")


def share(images: int, *, face: bool) -> None:
    """Print the shares of native code and of Python in a worker's time."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "images")
        folder.mkdir()
        make(folder, images, *((96, 72) if face else (640, 480)))
        job = msgspec.structs.replace(OPTIONS, face=face)
        sources = [Source(str(path), str(path)) for path in sorted(folder.iterdir())]
        list(process(job, sources[:20]))
        profile = cProfile.Profile(time.process_time)
        profile.runcall(list, process(job, sources))
        stats = pstats.Stats(profile).stats  # type: ignore[attr-defined]
        total = sum(own for _, _, own, _, _ in stats.values())
        shares = {
            task: sum(own for (_, _, name), (_, _, own, _, _) in stats.items() if any(mark in name for mark in marks))
            for task, marks in WORK.items()
        }
        print(", ".join(f"{task} {spent / total:.1%}" for task, spent in shares.items()))
        print(
            f"in total {sum(shares.values()) / total:.1%} of {1e3 * total / images:.1f} ms of processor time an image"
        )


def main() -> int:
    """Run the measurement that the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("benchmark", choices=("kill", "kill-worker", "memory", "start", "rate", "share"))
    parser.add_argument("--images", type=int, nargs="*", default=[])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--face", action="store_true", help="share: of face crops, without a detector")
    options = parser.parse_args()
    if options.benchmark == "kill":
        return kill((options.images or [10_000])[0], options.kills)
    if options.benchmark == "kill-worker":
        return kill_worker((options.images or [10_000])[0])
    if options.benchmark == "rate":
        rate((options.images or [3000])[0])
        return 0
    if options.benchmark == "share":
        share((options.images or [300])[0], face=options.face)
        return 0
    sizes = options.images or ([1000, 10_000, 100_000] if options.benchmark == "memory" else [1_000_000])
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "images")
            folder.mkdir()
            make(folder, size, 48, 48)
            in_process(print_memory if options.benchmark == "memory" else first, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
