"""Drawn objects that a small network takes for faces: round ones, and ones with marks like eyes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Canvas = npt.NDArray[np.uint8]
    Colour = tuple[int]
    Painter = Callable[[Canvas, Canvas, np.random.Generator], None]

SIDE: Final = 96
_CENTRE: Final = SIDE // 2
_RADIUS: Final = 44  # of round objects
_OPAQUE: Final = (255,)
_FONTS: Final = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789&%@?"


def draw_clutter(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    """Draw a random object.

    Args:
        rng: source of randomness.

    Returns:
        A grey image and the opacity of each pixel, 0..255; both uint8 of shape (`SIDE`, `SIDE`).
    """
    image = np.full((SIDE, SIDE), rng.integers(256), np.uint8)
    mask = np.zeros_like(image)
    _PAINTERS[int(rng.integers(len(_PAINTERS)))](image, mask, rng)
    return image, mask


def _wheel(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    _disc(mask, _RADIUS, _OPAQUE)
    _disc(image, _RADIUS, _grey(rng))
    radius = _RADIUS * rng.uniform(0.6, 0.95)
    _disc(image, radius, _grey(rng))
    spokes, phase, grey = int(rng.integers(3, 14)), rng.uniform(0, math.pi), _grey(rng)
    thickness = int(rng.integers(1, max(2, 36 // spokes)))
    for spoke in range(spokes):
        _line(image, (0, radius), phase + 2 * math.pi * spoke / spokes, grey, thickness)
    _disc(image, radius * rng.uniform(0.1, 0.5), _grey(rng))
    if rng.random() < 0.5:
        _disc(image, radius, _grey(rng), int(rng.integers(1, 4)))


def _rings(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    _disc(mask, _RADIUS, _OPAQUE)
    for radius in np.sort(rng.uniform(4, _RADIUS, int(rng.integers(2, 7))))[::-1]:
        _disc(image, radius, _grey(rng))


def _ball(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    _disc(mask, _RADIUS, _OPAQUE)
    grey = _grey(rng)
    kind = int(rng.integers(3))
    if kind == 0:  # a football
        phase = rng.uniform(0, math.pi)
        for ring, count in ((0.0, 1), (0.62, 5), (1.0, 5)):
            for patch in range(count):
                angle = phase + ring + 2 * math.pi * patch / count
                centre = _point(ring * _RADIUS, angle)
                cv2.fillPoly(image, [_polygon(centre, _RADIUS * rng.uniform(0.18, 0.28), 5, angle)], grey, cv2.LINE_AA)
    elif kind == 1:  # with seams
        for _ in range(int(rng.integers(1, 5))):
            axes = (_RADIUS, int(_RADIUS * rng.uniform(0, 0.9)))
            degrees = rng.uniform(0, 180)
            cv2.ellipse(image, (_CENTRE, _CENTRE), axes, degrees, 0, 360, grey, int(rng.integers(1, 4)), cv2.LINE_AA)
    # Light from a random side.
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / _CENTRE - 1
    light_at = rng.uniform(-0.5, 0.5, 2)
    light = 1.1 - np.float32(rng.uniform(0.1, 0.8)) * (np.square(x - light_at[0]) + np.square(y - light_at[1]))
    image[:] = np.clip(image * light, 0, 255)


def _dial(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    _disc(mask, _RADIUS, _OPAQUE)
    _disc(image, _RADIUS, _grey(rng), int(rng.integers(1, 8)))
    grey = _grey(rng)
    ticks = int(rng.choice((4, 8, 12, 60)))
    length = _RADIUS * rng.uniform(0.05, 0.2)
    thickness = 1 if ticks > 12 else int(rng.integers(1, 5))
    for tick in range(ticks):
        _line(image, (0.9 * _RADIUS - length, 0.9 * _RADIUS), 2 * math.pi * tick / ticks, grey, thickness)
    for _ in range(int(rng.integers(1, 4))):
        reach = _RADIUS * rng.uniform(0.3, 0.8)
        _line(image, (0, reach), rng.uniform(0, 2 * math.pi), grey, int(rng.integers(1, 5)))


def _panel(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    """Draw a button, socket, lamp or front of a car: an object with a few holes, the same on both sides."""
    if rng.random() < 0.5:
        _disc(mask, _RADIUS, _OPAQUE)
    else:
        cv2.rectangle(mask, (4, 4), (SIDE - 5, SIDE - 5), _OPAQUE, -1)
    grey = _grey(rng)
    for _ in range(int(rng.integers(1, 4))):
        across, down = rng.uniform(0, 0.7), rng.uniform(-0.7, 0.7)
        size = _RADIUS * rng.uniform(0.05, 0.25, 2)
        square = rng.random() < 0.5
        for side in (-across, across):
            x, y = _CENTRE + side * _RADIUS, _CENTRE + down * _RADIUS
            low, high = (round(x - size[0]), round(y - size[1])), (round(x + size[0]), round(y + size[1]))
            if square:
                cv2.rectangle(image, low, high, grey, -1)
            else:
                cv2.ellipse(
                    image, (round(x), round(y)), (round(size[0]), round(size[1])), 0, 0, 360, grey, -1, cv2.LINE_AA
                )


def _grid(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    """Draw windows, bricks, shelves or keys."""
    mask[:] = 255
    columns, rows = (int(count) for count in rng.integers(1, 8, 2))
    gap = rng.uniform(0.1, 0.5)
    grey, other = _grey(rng), _grey(rng)
    for row in range(rows):
        for column in range(columns):
            left, top = round((column + gap / 2) * SIDE / columns), round((row + gap / 2) * SIDE / rows)
            right, bottom = round((column + 1 - gap / 2) * SIDE / columns), round((row + 1 - gap / 2) * SIDE / rows)
            cv2.rectangle(image, (left, top), (right, bottom), grey if rng.random() < 0.8 else other, -1)


def _text(image: Canvas, mask: Canvas, rng: np.random.Generator) -> None:
    count = int(rng.integers(1, 5))
    text = "".join(_LETTERS[int(i)] for i in rng.integers(len(_LETTERS), size=count))
    font = _FONTS[int(rng.integers(len(_FONTS)))]
    thickness = int(rng.integers(1, 8))
    (width, height), _ = cv2.getTextSize(text, font, 1, thickness)
    scale = 0.9 * SIDE / max(width, height)
    origin = (round((SIDE - scale * width) / 2), round((SIDE + scale * height) / 2))
    canvas = mask
    if rng.random() < 0.5:  # on a sign
        mask[:] = 255
        canvas = image
    cv2.putText(canvas, text, origin, font, scale, _OPAQUE if canvas is mask else _grey(rng), thickness, cv2.LINE_AA)


_PAINTERS: Final[tuple[Painter, ...]] = (_wheel, _wheel, _rings, _ball, _ball, _dial, _panel, _grid, _text)


def _grey(rng: np.random.Generator) -> Colour:
    return (int(rng.integers(256)),)


def _point(radius: float, angle: float) -> tuple[int, int]:
    return round(_CENTRE + radius * math.cos(angle)), round(_CENTRE + radius * math.sin(angle))


def _disc(canvas: Canvas, radius: float, grey: Colour, thickness: int = -1) -> None:
    cv2.circle(canvas, (_CENTRE, _CENTRE), max(1, round(radius)), grey, thickness, cv2.LINE_AA)


def _line(canvas: Canvas, radii: tuple[float, float], angle: float, grey: Colour, thickness: int) -> None:
    start, end = (_point(radius, angle) for radius in radii)
    cv2.line(canvas, start, end, grey, thickness, cv2.LINE_AA)


def _polygon(centre: tuple[int, int], radius: float, corners: int, phase: float) -> npt.NDArray[np.int32]:
    angles = phase + np.arange(corners) * (2 * math.pi / corners)
    return np.round(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + centre).astype(np.int32)
