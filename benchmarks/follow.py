"""Which cheap way of following a face is cheap, stays on it, and knows when it is lost?

    python benchmarks/follow.py

The demo's faces make moves of half a second, at 10 frames a second, before noisy patterned walls, at three sizes.
`Follower` (normalised cross-correlation) is compared with sparse pyramidal Lucas-Kanade optical flow, checked forwards
and backwards (Kalal et al. 2010), in a picture reduced as much.  For each move: the share of frames in which the
face was lost, and the mean overlap with the truth (intersection over union) where it was not.  Then the share of
faces that were noticed to be gone at once.  Microseconds are of the processor, a face and frame, one thread.

The constants of `fer_edge_device.follow` are in the middle of what does well in these tables.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.crop import Box
from fer_edge.emotions import FER2013
from fer_edge.tracks import intersection_over_union
from fer_edge_device.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Gray = npt.NDArray[np.uint8]

FRAMES: Final = 6
SIDES: Final = (60, 120, 220)
WALLS: Final = 4
# What becomes of a face by frame n: to the right and down in sides, size, degrees, light, how far it has changed.
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


class Way(Protocol):
    """A way of following one face."""

    def start(self, gray: Gray, box: Box) -> None:
        """See the face where the detector found it."""
        ...

    def find(self, gray: Gray) -> Box | None:
        """Where it is in the next frame; None when it is lost."""
        ...


class Correlation:
    """`Follower` as it is."""

    def start(self, gray: Gray, box: Box) -> None:
        """See the face."""
        self._follower = Follower()
        self._follower.take(gray)
        seen = self._follower.remember(box)
        assert seen is not None  # noqa: S101
        self._seen = seen

    def find(self, gray: Gray) -> Box | None:
        """Find it."""
        self._follower.take(gray)
        return self._follower.find(self._seen)


class OpticalFlow:
    """A grid of 5x5 points; the box moves and grows by the medians of what they do."""

    _SIDE: Final = 24  # of the reduced face
    _LEAST: Final = 0.4  # of the points must come back to within a pixel of where they were

    def start(self, gray: Gray, box: Box) -> None:
        """See the face."""
        self._keep(gray, box)

    def _keep(self, gray: Gray, box: Box) -> None:
        reach = box.width / 2
        left, top = max(0, int(box.x - reach)), max(0, int(box.y - reach))
        right, bottom = int(box.x + box.width + reach) + 1, int(box.y + box.height + reach) + 1
        self._box, self._cut = box, np.s_[top:bottom, left:right]
        rows, columns = gray[self._cut].shape
        factor = self._SIDE / box.width
        self._size = max(8, round(columns * factor)), max(8, round(rows * factor))
        self._corner, self._scale = (left, top), (self._size[0] / columns, self._size[1] / rows)
        self._before = cv2.resize(gray[self._cut], self._size, interpolation=cv2.INTER_AREA)

    def find(self, gray: Gray) -> Box | None:
        """Find it."""
        now = cv2.resize(gray[self._cut], self._size, interpolation=cv2.INTER_AREA)
        box, (left, top), (wide, high) = self._box, self._corner, self._scale
        steps = np.linspace(0.15, 0.85, 5)
        grid = np.meshgrid((box.x - left + box.width * steps) * wide, (box.y - top + box.height * steps) * high)
        points = np.stack(grid, axis=-1).reshape(-1, 1, 2).astype(np.float32)
        window, levels = (7, 7), 2
        there, found, _ = cv2.calcOpticalFlowPyrLK(
            self._before, now, points, points.copy(), winSize=window, maxLevel=levels
        )
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(
            now, self._before, there, points.copy(), winSize=window, maxLevel=levels
        )
        error = np.linalg.norm(back - points, axis=2)[:, 0]
        good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (error < 1)
        if good.mean() < self._LEAST:
            return None
        was, now_at = points[good, 0], there[good, 0]
        across, down = np.median(now_at - was, axis=0)
        apart = np.linalg.norm(was[:, None] - was[None], axis=2)
        growth = np.median((np.linalg.norm(now_at[:, None] - now_at[None], axis=2)[apart > 0]) / apart[apart > 0])
        width, height = box.width * float(growth), box.height * float(growth)
        x = box.x + (box.width - width) / 2 + float(across) / wide
        y = box.y + (box.height - height) / 2 + float(down) / high
        self._keep(gray, Box(x, y, width, height))
        return self._box


def wall(seed: int) -> Gray:
    """A wall with a pattern of coarse and fine grains."""
    rng = np.random.default_rng(seed)
    out = demo.wall().astype(np.float32)
    for grain, strength in ((40, 18), (20, 12), (8, 8), (3, 6)):
        noise = rng.normal(0, strength, (demo.HEIGHT // grain, demo.WIDTH // grain)).astype(np.float32)
        out += cv2.resize(noise, (demo.WIDTH, demo.HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(out, 0, 255).astype(np.uint8)


def noisy(picture: npt.NDArray[np.generic], seed: int, light: float = 1.0) -> Gray:
    """The picture under less light, as a camera sees it."""
    noise = np.random.default_rng(seed).normal(0, 3, picture.shape)
    return np.clip(picture.astype(np.float32) * light + noise, 0, 255).astype(np.uint8)


def make_move(name: str, side: int, number: int) -> list[tuple[Gray, Box]]:
    """A film of a move, and the box that a detector would give."""
    film = []
    one, other = (demo.face(FER2013[(2 * number + step) % len(FER2013)]) for step in (0, 1))
    for n in range(FRAMES):
        right, down, size, degrees, light, changed = MOVES[name](n)
        face = one * np.float32(1 - changed) + other * np.float32(changed)
        turn = cv2.getRotationMatrix2D((23.5, 23.5), degrees, 1)
        face = np.asarray(cv2.warpAffine(face, turn, (48, 48), borderMode=cv2.BORDER_REPLICATE), np.float32)
        x, y = 130 + side * (0.5 + right), 240 + side * down
        picture = wall(number)
        demo.paste(picture, face, square(x, y, side * size))
        film.append((noisy(picture, n, light), square(x, y, side * size * 0.85)))
    return film


def square(x: float, y: float, side: float) -> Box:
    """A box by its middle."""
    return Box(x - side / 2, y - side / 2, side, side)


def gone(side: int, number: int) -> dict[str, tuple[Gray, Gray, Box]]:
    """What a face is before, and what is there when it is gone."""
    before, box = make_move("still", side, number)[0]
    x, y = box.x + box.width / 2, box.y + box.height / 2
    another = wall(number)
    demo.paste(another, demo.face(FER2013[(2 * number + 3) % len(FER2013)]), square(x, y, side))
    return {
        "left": (before, noisy(wall(number), 9), box),
        "cut": (before, noisy(wall(number + 50), 9), box),
        "another face": (before, noisy(another, 9), box),
        "lights off": (before, noisy(wall(number), 9, light=0.0), box),
    }


def measure(name: str, make: Callable[[], Way]) -> None:
    """Print what one way does."""
    taken: list[float] = []

    def timed(way: Way, gray: Gray) -> Box | None:
        start = time.thread_time()
        found = way.find(gray)
        taken.append(time.thread_time() - start)
        return found

    print(f"{name}\n  {'move':<14}{'lost':>6}{'overlap':>9}{'least':>7}")
    for move in MOVES:
        overlaps, lost = [], 0
        for side in SIDES:
            for number in range(WALLS):
                film = make_move(move, side, number)
                way = make()
                way.start(*film[0])
                for gray, truth in film[1:]:
                    found = timed(way, gray)
                    if found is None:
                        lost += 1
                    else:
                        overlaps.append(intersection_over_union(found, truth))
        share = lost / (len(overlaps) + lost)
        print(f"  {move:<14}{share:>6.0%}{statistics.mean(overlaps):>9.2f}{min(overlaps):>7.2f}")
    noticed: dict[str, list[bool]] = {}
    for side in SIDES:
        for number in range(2 * WALLS):
            for what, (before, after, box) in gone(side, number).items():
                way = make()
                way.start(before, box)
                noticed.setdefault(what, []).append(timed(way, after) is None)
    print("  noticed: " + ", ".join(f"{what} {statistics.mean(marks):.0%}" for what, marks in noticed.items()))
    print(f"  {statistics.median(taken) * 1e6:.0f} microseconds\n")


def main() -> None:
    """Measure both ways."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    cv2.setNumThreads(1)
    measure("cross-correlation", Correlation)
    measure("optical flow", OpticalFlow)


if __name__ == "__main__":
    main()
