"""Short videos of faces in front of a patterned wall."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_edge import demo
from fer_edge.geometry import Box
from fer_edge_device.capture.base import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt


@functools.cache
def _patterned() -> npt.NDArray[np.uint8]:
    """Return a wall with a pattern in which no face must be found."""
    rng = np.random.default_rng(5)
    wall = demo.wall().astype(np.float32)
    for grain, strength in ((40, 10), (12, 8), (4, 5)):
        noise = rng.normal(0, strength, (demo.HEIGHT // grain, demo.WIDTH // grain)).astype(np.float32)
        wall += cv2.resize(noise, (demo.WIDTH, demo.HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(wall, 0, 255).astype(np.uint8)


def patterned_wall() -> npt.NDArray[np.uint8]:
    return _patterned().copy()


def around(x: float, y: float, side: float = 120) -> Box:
    """Return a square around a point."""
    return Box(x - side / 2, y - side / 2, side, side)


def scene(*people: tuple[str, Box]) -> npt.NDArray[np.uint8]:
    """Return the wall with people in front of it; the last one is nearest."""
    image = patterned_wall()
    for emotion, box in people:
        demo.paste(image, demo.face(emotion), box)
    return image


def video(images: Iterable[npt.NDArray[np.uint8]], fps: float = 10) -> Iterator[Frame]:
    return (Frame(image, round(number / fps, 3), number) for number, image in enumerate(images))
