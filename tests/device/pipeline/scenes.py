"""Short videos of faces that do what a test wants, on a wall that is not smooth."""

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
def _papered() -> npt.NDArray[np.uint8]:
    """A wall with a pattern that faces must not be taken for."""
    rng = np.random.default_rng(5)
    wall = demo.wall().astype(np.float32)
    for grain, strength in ((40, 10), (12, 8), (4, 5)):
        noise = rng.normal(0, strength, (demo.HEIGHT // grain, demo.WIDTH // grain)).astype(np.float32)
        wall += cv2.resize(noise, (demo.WIDTH, demo.HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(wall, 0, 255).astype(np.uint8)


def papered_wall() -> npt.NDArray[np.uint8]:
    return _papered().copy()


def around(x: float, y: float, side: float = 120) -> Box:
    """A square by its middle."""
    return Box(x - side / 2, y - side / 2, side, side)


def scene(*people: tuple[str, Box]) -> npt.NDArray[np.uint8]:
    """The wall with people before it, the last in front."""
    image = papered_wall()
    for emotion, box in people:
        demo.paste(image, demo.face(emotion), box)
    return image


def video(images: Iterable[npt.NDArray[np.uint8]], fps: float = 10) -> Iterator[Frame]:
    return (Frame(image, round(number / fps, 3), number) for number, image in enumerate(images))
