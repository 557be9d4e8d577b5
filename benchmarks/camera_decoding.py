"""Compare ways to get a grey frame from what a USB camera sends.

    python benchmarks/camera_decoding.py [--rounds 30]

Frames of the demo are stored as Motion JPEG and as YUYV, at three sizes. The ways take turns on one thread. The script
prints the median of the processor time, and its ratio to the plain way: decode to colour, as OpenCV does by default,
and convert that to grey. With ``--faces`` it also detects and classifies enlarged faces in frames of 1920x1080 pixels
that were decoded in full and at half size, and prints how many were found and right.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier, classify_faces
from fer_edge.detection.factory import make_detector
from fer_edge.geometry import Box
from fer_edge.utils.image_io import read_gray
from fer_edge.utils.system import machine_name

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

SIZES: Final = ((640, 480), (1280, 720), (1920, 1080))
DATA: Final = Path(__file__).parents[1] / "tests" / "data"
FRAMES: Final = 8


def ways(gray: Image) -> dict[str, Callable[[], object]]:
    """Return the ways to get a grey frame; the plain way of a format comes first."""
    colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    jpeg = cv2.imencode(".jpg", colour, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].reshape(-1)
    yuyv = np.full((*gray.shape, 2), 128, np.uint8)
    yuyv[..., 0] = gray
    return {
        "MJPG, colour, then grey": lambda: cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY),
        "MJPG, grey": lambda: cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE),
        "MJPG, grey, half the size": lambda: cv2.imdecode(jpeg, cv2.IMREAD_REDUCED_GRAYSCALE_2),
        "YUYV, colour, then grey": lambda: cv2.cvtColor(cv2.cvtColor(yuyv, cv2.COLOR_YUV2BGR_YUYV), cv2.COLOR_BGR2GRAY),
        "YUYV, luma": lambda: cv2.extractChannel(yuyv, 0),
    }


def measure(size: tuple[int, int], rounds: int) -> None:
    """Print the times of one size."""
    taken: dict[str, list[float]] = {}
    for number in range(FRAMES):
        by_name = ways(np.asarray(cv2.resize(demo.frame(15 * number), size), np.uint8))
        for _ in range(rounds):
            for name, way in by_name.items():
                start = time.thread_time()
                way()
                taken.setdefault(name, []).append(time.thread_time() - start)
    print(f"{size[0]}x{size[1]}")
    plain = 0.0
    for name, times in taken.items():
        median = statistics.median(times)
        plain = median if "colour" in name else plain
        print(f"  {name:<26}{median * 1e3:>7.2f} ms {median / plain:>6.2f}")


def measure_threads(rounds: int) -> None:
    """Print what OpenCV's threads cost and gain on frames of a camera."""
    gray = demo.frame(50)
    for threads in (cv2.getNumThreads(), 1):
        cv2.setNumThreads(threads)
        wall, used = time.perf_counter(), time.process_time()
        for _ in range(20 * rounds):
            colour = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
            cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
            cv2.resize(gray, (320, 240), interpolation=cv2.INTER_LINEAR)
        wall, used = (time.perf_counter() - wall) / rounds / 20, (time.process_time() - used) / rounds / 20
        print(
            f"{threads} threads: {wall * 1e3:.2f} ms, {used * 1e3:.2f} ms of processor time (conversions and a resize)"
        )


def measure_faces() -> None:
    """Print how many enlarged faces are found and right at full and at half size."""
    detector, classifier = make_detector(), TFLiteClassifier()
    sheet = read_gray(DATA / "faces.webp")
    with (DATA / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = sheet.shape[1] // 48
    wall = np.asarray(cv2.resize(demo.wall(), (1920, 1080), interpolation=cv2.INTER_CUBIC), np.uint8)
    print("1920x1080, faces of 120 to 200 pixels")
    for name, flag, factor in (("full", cv2.IMREAD_GRAYSCALE, 1), ("half", cv2.IMREAD_REDUCED_GRAYSCALE_2, 2)):
        found = right = total = 0
        for number, row in enumerate(rows):
            side = 120 + 20 * (number % 5)
            x, y = 48 * (number % columns), 48 * (number // columns)
            image = wall.copy()
            face = sheet[y : y + 48, x : x + 48].astype(np.float32)
            demo.paste(image, face, Box(700 + number % 7, 400 + number % 5, side, side))
            jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
            gray = np.asarray(cv2.imdecode(jpeg.reshape(-1), flag), np.uint8)
            faces = [
                face
                for face in detector.detect(gray)
                if abs(factor * (face.box.x + face.box.width / 2) - 700 - side / 2) < side / 2
            ]
            total += 1
            if faces:
                found += 1
                scores = classify_faces(gray, faces[:1], detector.crop_spec, classifier).scores
                right += int(scores[0].argmax()) == int(row["emotion"])
        print(f"  {name}: {found} of {total} found, {right} right")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--faces", action="store_true", help="also measure what half the size costs in accuracy")
    options = parser.parse_args()
    print(machine_name())
    measure_threads(options.rounds)
    for size in SIZES:
        measure(size, options.rounds)
    if options.faces:
        measure_faces()


if __name__ == "__main__":
    main()
