"""The demo video: three people with known expressions move through the image.

The faces are seven PublicTest images of FER-2013, one of each class (rows 28952, 30550, 29812, 28714, 29521, 28785 and
28826). FER+'s annotators agree on their expressions, and the shipped model was not trained on them.
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

_FACE_SIDE: Final = 48
_FADE_FRAMES: Final = 3  # frames between one expression and the next


class _Actor(NamedTuple):
    """A person in the video, who moves in a straight line.

    Attributes:
        first_frame: first frame with the face.
        end_frame: first frame without the face.
        start: x and y of the face's centre and its side, in pixels, in the first frame.
        end: the same in the last frame.
        expressions: expressions, each with the frame in which it starts.
    """

    first_frame: int
    end_frame: int
    start: tuple[float, float, float]
    end: tuple[float, float, float]
    expressions: tuple[tuple[int, str], ...]


_ACTORS: Final = (
    _Actor(0, 105, (120, 150, 120), (180, 190, 150), ((0, "happy"), (38, "surprise"), (72, "fear"))),
    _Actor(18, 95, (560, 170, 130), (470, 150, 120), ((18, "neutral"), (56, "angry"))),
    _Actor(48, 118, (330, 360, 120), (350, 330, 140), ((48, "sad"), (84, "disgust"))),
)


class TrueFace(NamedTuple):
    """The ground truth of a face in a frame.

    Attributes:
        actor: index of the person.
        box: position, in pixels.
        emotion: expression, one of `FER2013`.
    """

    actor: int
    box: Box
    emotion: str


def truth(number: int) -> list[TrueFace]:
    """Return the ground truth of a frame.

    Args:
        number: number of the frame, from 0; the video repeats after `FRAMES`.
    """
    number %= FRAMES
    faces = []
    for index, actor in enumerate(_ACTORS):
        if actor.first_frame <= number < actor.end_frame:
            emotion = [name for start, name in actor.expressions if start <= number][-1]
            faces.append(TrueFace(index, _box(actor, number), emotion))
    return faces


def frame(number: int) -> npt.NDArray[np.uint8]:
    """Draw a grey frame, uint8 of shape (480, 640), always the same for the same number.

    Args:
        number: number of the frame, from 0; the video repeats after `FRAMES`.
    """
    number %= FRAMES
    out = wall()
    for actor in _ACTORS:
        if actor.first_frame <= number < actor.end_frame:
            paste(out, _expression(actor, number), _box(actor, number))
    return out


def wall() -> npt.NDArray[np.uint8]:
    """Draw the scene without faces, uint8 of shape (480, 640)."""
    return _background().copy()


def face(emotion: str) -> npt.NDArray[np.float32]:
    """Return the face with an expression of `FER2013`, 0..255, of shape (48, 48)."""
    return _faces()[emotion]


def paste(image: npt.NDArray[np.uint8], face: npt.NDArray[np.float32], box: Box) -> None:
    """Draw the part of a face that lies within an image.

    Args:
        image: uint8 of shape (rows, columns), which is changed.
        face: face of shape (48, 48), 0..255.
        box: a square, in pixels; it is drawn at subpixel precision, so that faces move smoothly.
    """
    rows, columns = image.shape
    left, top = math.floor(box.x), math.floor(box.y)
    right, bottom = min(left + int(box.width) + 2, columns), min(top + int(box.width) + 2, rows)
    left, top = max(left, 0), max(top, 0)
    if left >= right or top >= bottom:
        return
    scale = box.width / _FACE_SIDE
    matrix = np.array([[scale, 0, box.x - left], [0, scale, box.y - top]])
    size = (right - left, bottom - top)
    pasted = cv2.warpAffine(face, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.warpAffine(_mask(), matrix, size, flags=cv2.INTER_LINEAR)
    under = image[top:bottom, left:right]
    under[:] = np.clip(pasted * mask + under * (1 - mask), 0, 255)


def _box(actor: _Actor, number: int) -> Box:
    progress = (number - actor.first_frame) / (actor.end_frame - 1 - actor.first_frame)
    x, y, side = (a + (b - a) * progress for a, b in zip(actor.start, actor.end, strict=True))
    return Box(x - side / 2, y - side / 2, side, side)


def _expression(actor: _Actor, number: int) -> npt.NDArray[np.float32]:
    current = max(i for i, (start, _) in enumerate(actor.expressions) if start <= number)
    start, name = actor.expressions[current]
    face = _faces()[name]
    elapsed = number - start
    if current > 0 and elapsed < _FADE_FRAMES:
        weight = np.float32((elapsed + 1) / (_FADE_FRAMES + 1))
        return face * weight + _faces()[actor.expressions[current - 1][1]] * (1 - weight)
    return face


@functools.cache
def _faces() -> dict[str, npt.NDArray[np.float32]]:
    data = (resources.files("fer_edge") / "data" / "demo_faces.png").read_bytes()
    strip = decode_gray(data, "demo_faces.png")
    return {name: strip[:, i * _FACE_SIDE : (i + 1) * _FACE_SIDE].astype(np.float32) for i, name in enumerate(FER2013)}


@functools.cache
def _background() -> npt.NDArray[np.uint8]:
    """Draw a softly lit wall."""
    noise = np.random.default_rng(7).normal(0, 1, (HEIGHT // 40, WIDTH // 40)).astype(np.float32)
    wall = cv2.resize(noise, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    light = np.linspace(150, 90, HEIGHT, dtype=np.float32)[:, None]
    return np.asarray(np.clip(light + 9 * wall, 0, 255), np.uint8)


@functools.cache
def _mask() -> npt.NDArray[np.float32]:
    """Return the opacity of a face: 1 in the middle, fading to 0 at the border."""
    edge = np.minimum(np.arange(_FACE_SIDE), np.arange(_FACE_SIDE)[::-1]).astype(np.float32)
    ramp = np.clip(edge / 5, 0, 1)
    return np.minimum.outer(ramp, ramp)
