"""Drawn things that cover a part of a face: hands, what comes in from a side, and held objects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE: Final = 96  # of a drawing; the face has the middle half of it
_FACE: Final = slice(SIDE // 4, SIDE * 3 // 4)
_OPAQUE: Final = (255,)
_FINGERS: Final = (2, 5)  # fewest and most that are seen


class Occluder(NamedTuple):
    """A drawing of what covers a face.

    Attributes:
        light: brightness of each pixel, relative to that of its material, float32 of shape (`SIDE`, `SIDE`).
        mask: opacity of each pixel, 0..1, float32 of the same shape.
        is_skin: whether it is a hand, which is about as bright as the face.
    """

    light: npt.NDArray[np.float32]
    mask: npt.NDArray[np.float32]
    is_skin: bool

    @property
    def covered(self) -> float:
        """The share of the face that it covers, 0..1."""
        return float(self.mask[_FACE, _FACE].mean())


def draw_occluder(rng: np.random.Generator) -> Occluder:
    """Draw a hand, something that comes in from a side, or an object in front of a face, each as often."""
    kind = int(rng.integers(3))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    light = np.full((SIDE, SIDE), 1, np.float32)
    (_hand, _side, _object)[kind](mask, light, rng)
    return Occluder(light, (mask / 255).astype(np.float32), is_skin=kind == 0)


def _hand(mask: npt.NDArray[np.uint8], light: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Draw fingers side by side, with shades between them, and the hand from which they come."""
    count = int(rng.integers(_FINGERS[0], _FINGERS[1] + 1))
    direction = rng.uniform(-0.75, 0.75) * math.pi - math.pi / 2  # hands come from below more often than from above
    along = np.array((math.cos(direction), math.sin(direction)))
    across = np.array((-along[1], along[0]))
    width, length = rng.uniform(6, 10), rng.uniform(14, 34)
    knuckles = SIDE / 2 + rng.uniform(-14, 14, 2) - along * length / 2
    spread = rng.uniform(0, 0.2)
    for finger in range(count):
        place = finger - (count - 1) / 2
        turned = along + across * place * spread
        begin = knuckles + across * place * width
        end = begin + turned * length * rng.uniform(0.8, 1.1)
        _capsule(mask, begin, end, width, _OPAQUE)
        _capsule(light, begin, end, width, (rng.uniform(0.55, 0.8),))
        _capsule(light, begin, end, width * 0.75, (rng.uniform(0.9, 1.1),))
    palm = knuckles - along * length * rng.uniform(0.3, 0.6)
    axes = (round(count * width * 0.55), round(length * rng.uniform(0.5, 0.9)))
    for canvas, value in ((mask, 255), (light, rng.uniform(0.85, 1.05))):
        cv2.ellipse(canvas, _point(palm), axes, math.degrees(direction) + 90, 0, 360, (value,), -1, cv2.LINE_AA)


def _side(mask: npt.NDArray[np.uint8], light: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Cover what lies beyond a line, as masks, scarves, books, walls and other people do."""
    direction = math.radians(rng.choice((90, 90, 90, 0, 180, 270)) + rng.normal(0, 12))
    along = np.array((math.cos(direction), math.sin(direction)))
    across = np.array((-along[1], along[0]))
    edge = SIDE / 2 + along * rng.uniform(0, SIDE / 4)
    far = along * SIDE * (2 if rng.random() < 0.5 else rng.uniform(0.2, 0.5))
    corners = (edge + across * SIDE, edge - across * SIDE, edge - across * SIDE + far, edge + across * SIDE + far)
    cv2.fillPoly(mask, [np.rint(corners).astype(np.int32)], _OPAQUE, cv2.LINE_AA)
    _shade(light, rng)


def _object(mask: npt.NDArray[np.uint8], light: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Cover a rectangle or an ellipse, as cups, telephones, cameras and microphones do."""
    centre = SIDE / 2 + rng.uniform(-SIDE / 4, SIDE / 4, 2)
    size = rng.uniform(SIDE / 8, SIDE / 2.2, 2)
    degrees = rng.uniform(0, 180) if rng.random() < 0.5 else 0.0
    if rng.random() < 0.5:
        axes = _point(size / 2 + 1)
        cv2.ellipse(mask, _point(centre), axes, degrees, 0, 360, _OPAQUE, -1, cv2.LINE_AA)
    else:
        box = cv2.boxPoints((centre.tolist(), size.tolist(), degrees))
        cv2.fillPoly(mask, [np.rint(box).astype(np.int32)], _OPAQUE, cv2.LINE_AA)
    _shade(light, rng)
    if rng.random() < 0.5:  # an edge, a handle or a lens
        cv2.circle(light, _point(centre), int(rng.integers(3, 14)), (rng.uniform(0.4, 1.6),), 2, cv2.LINE_AA)


def _shade(light: npt.NDArray[np.float32], rng: np.random.Generator) -> None:
    """Let the light fade to one side."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE - 0.5
    light *= 1 + rng.uniform(-0.5, 0.5) * x + rng.uniform(-0.5, 0.5) * y


def _capsule(
    canvas: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    begin: npt.NDArray[np.float64],
    end: npt.NDArray[np.float64],
    width: float,
    value: tuple[float],
) -> None:
    """Draw a line with round ends."""
    cv2.line(canvas, _point(begin), _point(end), value, max(round(width), 1), cv2.LINE_AA)


def _point(at: npt.NDArray[np.float64]) -> tuple[int, int]:
    """Round a position."""
    return round(float(at[0])), round(float(at[1]))
