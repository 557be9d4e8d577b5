"""Hints about how the camera is aimed, from a frame and the faces in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.messages import VisibleFace

Hint = Literal["dark", "bright", "far", "tilted", "cut"]

_DARK: Final = 40  # mean grey, 0..255
_BRIGHT: Final = 215
_SMALL_FACE: Final = 40  # pixels across: the classifier's 48 would have to be made up
_MAX_ROLL: Final = 25  # degrees
_EDGE: Final = 0.005  # of the image


def framing_hints(gray: npt.NDArray[np.uint8], faces: Iterable[VisibleFace]) -> list[Hint]:
    """Return what makes faces hard to find or to classify.

    Args:
        gray: uint8 of shape (rows, columns).
        faces: the faces in it.

    Returns:
        ``dark`` and ``bright`` for the light, ``far`` for a small face, ``tilted`` for eyes that are not level, ``cut``
        for a face at the edge.
    """
    faces = [*faces]
    brightness = float(gray[::8, ::8].mean())
    found: dict[Hint, bool] = {
        "dark": brightness < _DARK,
        "bright": brightness > _BRIGHT,
        "far": any(face.box[2] * gray.shape[1] < _SMALL_FACE for face in faces),
        "tilted": any(face.roll is not None and abs(face.roll) > _MAX_ROLL for face in faces),
        "cut": any(_touches_edge(face) for face in faces),
    }
    return [hint for hint, applies in found.items() if applies]


def _touches_edge(face: VisibleFace) -> bool:
    x, y, width, height = face.box
    return min(x, y) < _EDGE or max(x + width, y + height) > 1 - _EDGE
