"""Measure time and memory for reading a folder of 300,000 images and making batches from it.

    python benchmarks/large_folder.py [--images 300000] [--batches 200]

The images are colour JPEGs of 100x100 pixels, like the aligned images of RAF-DB. A few hundred different ones are
linked under many names, so that the speed of the disk matters little. A separate process reads them and then makes
batches in random order; its times and its peak memory are printed. Anonymous memory is what the machine must have.
File-backed memory is the temporary file of decoded faces, which the system may drop from memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from fer_edge.classification.labels import FER2013
from fer_edge.datasets.readers import load_dataset

DISTINCT_IMAGES = 700


def make(folder: Path, images: int) -> None:
    """Write class folders with a number of images in all."""
    rng = np.random.default_rng(1)
    originals = []
    for number in range(min(DISTINCT_IMAGES, images)):
        noise = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        encoded = cv2.imencode(".jpg", cv2.resize(noise, (100, 100), interpolation=cv2.INTER_CUBIC))[1]
        target = folder / "train" / FER2013[number % len(FER2013)]
        target.mkdir(parents=True, exist_ok=True)
        originals.append(target / f"{number:07d}.jpg")
        originals[-1].write_bytes(encoded.tobytes())
    for number in range(len(originals), images):
        original = originals[number % len(originals)]
        os.link(original, original.with_name(f"{number:07d}.jpg"))


def memory(name: str) -> float:
    """Return a value of /proc/self/status in megabytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{name}:")[1].split()[0]) / 1024


def read(folder: Path, batches: int) -> None:
    """Read the dataset, make batches, and print time and memory."""
    peak = {"RssAnon": 0.0, "RssFile": 0.0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for name, highest in peak.items():
                peak[name] = max(highest, memory(name))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    data = load_dataset(folder)
    print(f"read {len(data)} images in {time.perf_counter() - start:.1f} s", end="")
    print(f"; faces are {data.faces.nbytes / 1e6:.0f} MB on disk")
    print(f"peak while reading: {peak['RssAnon']:.0f} MB anonymous, {peak['RssFile']:.0f} MB file-backed")
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    for _ in range(batches):
        data.faces[rng.integers(0, len(data), 128)].sum()
    print(f"a random batch of 128: {(time.perf_counter() - start) / batches * 1e3:.2f} ms")
    done.set()
    watcher.join()
    print(f"peak overall: {peak['RssAnon']:.0f} MB anonymous, {peak['RssFile']:.0f} MB file-backed")


def main() -> None:
    """Write the folder, then read it in a new process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=300_000)
    parser.add_argument("--batches", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.images)
        process = multiprocessing.get_context("spawn").Process(target=read, args=(Path(folder), options.batches))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
