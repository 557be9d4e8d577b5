"""Find the best size and resolution of the region in which the detector searches for a known face.

    python benchmarks/follow.py

The demo's faces move for half a second at 10 frames per second, in front of noisy patterned walls, at three sizes. The
detector searches a square around each face's last position (`fer_edge.detection.roi`), of several sizes and scaled to
several resolutions. For each movement, the script prints the share of frames in which the face was lost, and the mean
and lowest overlap (intersection over union) with the true box in the other frames. It also prints the share of
disappeared faces that were noticed at once. Times are processor time per face and frame, on one thread.

The constants of `fer_edge.detection.roi` are those that lose the fewest faces.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.classification.labels import FER2013
from fer_edge.detection import roi
from fer_edge.detection.factory import make_detector
from fer_edge.geometry import Box, intersection_over_union

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from fer_edge.detection.base import TrackingDetector
    from fer_edge.geometry import Face

    Gray = npt.NDArray[np.uint8]

FRAMES: Final = 6
SIDES: Final = (60, 120, 220)
WALLS: Final = 4
MIN_IOU: Final = 0.2  # with the last position
# The change of a face until frame n: movement right and down in sides, size, degrees, light, change of expression.
MOVES: Final[dict[str, Callable[[int], tuple[float, float, float, float, float, float]]]] = {
    "still": lambda _: (0, 0, 1, 0, 1, 0),
    "slow": lambda n: (0.02 * n, 0.01 * n, 1, 0, 1, 0),
    "walk": lambda n: (0.15 * n, 0.03 * n, 1, 0, 1, 0),
    "fast": lambda n: (0.4 * n, 0, 1, 0, 1, 0),
    "nod": lambda n: (0, 0.12 * math.sin(n), 1, 0, 1, 0),
    "near": lambda n: (0, 0, 1.03**n, 0, 1, 0),
    "tilt": lambda n: (0, 0, 1, 3 * n, 1, 0),
    "dim": lambda n: (0.02 * n, 0, 1, 0, 0.85**n, 0),
    "change": lambda n: (0.02 * n, 0, 1, 0, 1, n / (FRAMES - 1)),
}


def wall(seed: int) -> Gray:
    """Draw a wall with a pattern of coarse and fine grains."""
    rng = np.random.default_rng(seed)
    out = demo.wall().astype(np.float32)
    for grain, strength in ((40, 18), (20, 12), (8, 8), (3, 6)):
        noise = rng.normal(0, strength, (demo.HEIGHT // grain, demo.WIDTH // grain)).astype(np.float32)
        out += cv2.resize(noise, (demo.WIDTH, demo.HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(out, 0, 255).astype(np.uint8)


def noisy(image: npt.NDArray[np.generic], seed: int, light: float = 1.0) -> Gray:
    """Add a camera's noise to an image, under less light."""
    noise = np.random.default_rng(seed).normal(0, 3, image.shape)
    return np.clip(image.astype(np.float32) * light + noise, 0, 255).astype(np.uint8)


def make_move(name: str, side: int, number: int) -> list[tuple[Gray, Box]]:
    """Make a video of a movement, with the box that a detector would return for each frame."""
    video = []
    one, other = (demo.face(FER2013[(2 * number + step) % len(FER2013)]) for step in (0, 1))
    for n in range(FRAMES):
        right, down, size, degrees, light, changed = MOVES[name](n)
        face = one * np.float32(1 - changed) + other * np.float32(changed)
        turn = cv2.getRotationMatrix2D((23.5, 23.5), degrees, 1)
        face = np.asarray(cv2.warpAffine(face, turn, (48, 48), borderMode=cv2.BORDER_REPLICATE), np.float32)
        x, y = 130 + side * (0.5 + right), 240 + side * down
        image = wall(number)
        demo.paste(image, face, square(x, y, side * size))
        video.append((noisy(image, n, light), square(x, y, side * size * 0.85)))
    return video


def square(x: float, y: float, side: float) -> Box:
    """Return a square box by its centre."""
    return Box(x - side / 2, y - side / 2, side, side)


def gone(side: int, number: int) -> dict[str, tuple[Gray, Gray, Box]]:
    """Return frames before and after a face disappears, and its box, for each way to disappear."""
    before, box = make_move("still", side, number)[0]
    return {
        "left": (before, noisy(wall(number), 9), box),
        "cut": (before, noisy(wall(number + 50), 9), box),
        "lights off": (before, noisy(wall(number), 9, light=0.0), box),
    }


def best(faces: Iterable[Face], box: Box) -> Box | None:
    """Return the face that overlaps the last position most, as `fer_edge.tracking.tracker.Tracker` matches them."""
    overlaps = [(intersection_over_union(face.box, box), face.box) for face in faces]
    overlap, found = max(overlaps, default=(0.0, None))
    return found if overlap >= MIN_IOU else None


def measure(detector: TrackingDetector) -> None:
    """Print the results for the present constants of `fer_edge.detection.roi`."""
    taken: list[float] = []

    def find(gray: Gray, box: Box) -> Box | None:
        start = time.thread_time()
        faces = detector.detect_in_roi(gray, box)
        taken.append(time.thread_time() - start)
        return best(faces, box)

    print(f"  {'move':<14}{'lost':>6}{'overlap':>9}{'lowest':>8}")
    for move in MOVES:
        overlaps, lost = [], 0
        for side in SIDES:
            for number in range(WALLS):
                video = make_move(move, side, number)
                box = video[0][1]
                for gray, truth in video[1:]:
                    found = find(gray, box)
                    if found is None:
                        lost += 1
                    else:
                        overlaps.append(intersection_over_union(found, truth))
                    box = found or truth
        share = lost / (len(overlaps) + lost)
        print(f"  {move:<14}{share:>6.0%}{statistics.mean(overlaps or [0]):>9.2f}{min(overlaps or [0]):>8.2f}")
    noticed: dict[str, list[bool]] = {}
    for side in SIDES:
        for number in range(2 * WALLS):
            for case, (before, after, box) in gone(side, number).items():
                place = best(detector.detect_in_roi(before, box), box) or box
                noticed.setdefault(case, []).append(find(after, place) is None)
    print("  noticed: " + ", ".join(f"{case} {statistics.mean(marks):.0%}" for case, marks in noticed.items()))
    print(f"  {statistics.median(taken) * 1e3:.2f} ms\n")


def main() -> None:
    """Measure every combination of size and resolution."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    cv2.setNumThreads(1)
    for reach, side in itertools.product((1.6, 2.0, 2.5), (64, 96, 128)):
        roi.ROI_SCALE, roi.ROI_SIDE = reach, side  # type: ignore[misc]
        print(f"{reach} times the face's side, {side} pixels")
        measure(make_detector("network"))


if __name__ == "__main__":
    main()
