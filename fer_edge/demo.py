"""An embedded video: three people whose expressions are known walk through the image.

The faces are seven PublicTest images of FER-2013, one of each class (rows 28952, 30550,
29812, 28714, 29521, 28785 and 28826), on whose expression FER+'s annotators agree; the
shipped model was not trained on them.
"""

from __future__ import annotations

import functools
import math
from importlib import resources
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.classification.labels import FER2013
from fer_edge.geometry import Box
from fer_edge.utils.image_io import decode_gray

if TYPE_CHECKING:
    import numpy.typing as npt

WIDTH: Final = 640
HEIGHT: Final = 480
FPS: Final = 10
FRAMES: Final = 120

_FACE: Final = 48
_FADE: Final = 3  # frames in which one expression becomes the next


class _Actor(NamedTuple):
    """Where somebody's face is at first and at last (centre and side), and what it shows from when."""

    enters: int
    leaves: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    shows: tuple[tuple[int, str], ...]


_ACTORS: Final = (
    _Actor(0, 105, (120, 150, 120), (180, 190, 150), ((0, "happy"), (38, "surprise"), (72, "fear"))),
    _Actor(18, 95, (560, 170, 130), (470, 150, 120), ((18, "neutral"), (56, "angry"))),
    _Actor(48, 118, (330, 360, 120), (350, 330, 140), ((48, "sad"), (84, "disgust"))),
)


class Shown(NamedTuple):
    """What is truly in a frame: whose face, where, with which expression."""

    actor: int
    box: Box
    emotion: str


def truth(number: int) -> list[Shown]:
    """The faces in a frame.

    Args:
        number: of the frame, from 0; the video repeats after `FRAMES`.
    """
    number %= FRAMES
    shown = []
    for index, actor in enumerate(_ACTORS):
        if actor.enters <= number < actor.leaves:
            box = _place(actor, number)
            emotion = [name for start, name in actor.shows if start <= number][-1]
            shown.append(Shown(index, box, emotion))
    return shown


def frame(number: int) -> npt.NDArray[np.uint8]:
    """One grey frame, uint8 of shape (480, 640): the same for the same number, every time.

    Args:
        number: of the frame, from 0; the video repeats after `FRAMES`.
    """
    number %= FRAMES
    out = wall()
    for actor in _ACTORS:
        if actor.enters <= number < actor.leaves:
            paste(out, _expression(actor, number), _place(actor, number))
    return out


def wall() -> npt.NDArray[np.uint8]:
    """The empty scene, uint8 of shape (480, 640)."""
    return _background().copy()


def face(emotion: str) -> npt.NDArray[np.float32]:
    """The video's face with that expression, one of `FER2013`: 0..255, of shape (48, 48)."""
    return _faces()[emotion]


def paste(image: npt.NDArray[np.uint8], face: npt.NDArray[np.float32], box: Box) -> None:
    """Draw a face into an image, where what of the box lies within it.

    Args:
        image: uint8 of shape (rows, columns).
        face: of shape (48, 48), 0..255.
        box: a square, in pixels; fractions of pixels count, so that faces move as smoothly as people do.
    """
    rows, columns = image.shape
    left, top = math.floor(box.x), math.floor(box.y)
    right, bottom = min(left + int(box.width) + 2, columns), min(top + int(box.width) + 2, rows)
    left, top = max(left, 0), max(top, 0)
    if left >= right or top >= bottom:
        return
    scale = box.width / _FACE
    matrix = np.array([[scale, 0, box.x - left], [0, scale, box.y - top]])
    size = (right - left, bottom - top)
    pasted = cv2.warpAffine(face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(_mask(), matrix, size, flags=cv2.INTER_LINEAR)
    under = image[top:bottom, left:right]
    under[:] = np.clip(pasted * mask + under * (1 - mask), 0, 255)


def _place(actor: _Actor, number: int) -> Box:
    way = (number - actor.enters) / (actor.leaves - 1 - actor.enters)
    x, y, side = (a + (b - a) * way for a, b in zip(actor.start, actor.end, strict=True))
    return Box(x - side / 2, y - side / 2, side, side)


def _expression(actor: _Actor, number: int) -> npt.NDArray[np.float32]:
    at = max(i for i, (start, _) in enumerate(actor.shows) if start <= number)
    start, name = actor.shows[at]
    face = _faces()[name]
    since = number - start
    if at > 0 and since < _FADE:
        weight = np.float32((since + 1) / (_FADE + 1))
        return face * weight + _faces()[actor.shows[at - 1][1]] * (1 - weight)
    return face


@functools.cache
def _faces() -> dict[str, npt.NDArray[np.float32]]:
    data = (resources.files("fer_edge") / "data" / "demo_faces.png").read_bytes()
    strip = decode_gray(data, "demo_faces.png")
    return {name: strip[:, i * _FACE : (i + 1) * _FACE].astype(np.float32) for i, name in enumerate(FER2013)}


@functools.cache
def _background() -> npt.NDArray[np.uint8]:
    """A softly lit wall."""
    noise = np.random.default_rng(7).normal(0, 1, (HEIGHT // 40, WIDTH // 40)).astype(np.float32)
    wall = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(150, 90, HEIGHT, dtype=np.float32)[:, None]
    return np.asarray(np.clip(light + 9 * wall, 0, 255), np.uint8)


@functools.cache
def _mask() -> npt.NDArray[np.float32]:
    """Opaque in the middle, fading over the outermost pixels."""
    edge = np.minimum(np.arange(_FACE), np.arange(_FACE)[::-1]).astype(np.float32)
    ramp = np.clip(edge / 5, 0, 1)
    return np.minimum.outer(ramp, ramp)
