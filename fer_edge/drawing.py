"""Drawing results on a copy of an image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import msgspec
import numpy as np

from fer_edge.classification.colours import emotion_colour
from fer_edge.errors import InputError
from fer_edge.expression import Expression
from fer_edge.geometry import Box
from fer_edge.utils.arguments import check_path, describe_value
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.image_input import load_bgr
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.utils.image_input import Channels, ImageLike, StrPath

_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_TEXT: Final = (32, 32, 32)
_BACKGROUND: Final = 255
# Sizes of a summary, in pixels.
_WIDTH: Final = 640
_HEIGHT: Final = 480
_COLUMN: Final = 200
_LINE: Final = 15
_MAX_FACES: Final = 12
_MAX_LABELS: Final = 12
_MAX_LETTERS: Final = 10


def annotate(
    image: ImageLike,
    faces: Sequence[Expression],
    save: StrPath | None = None,
    *,
    channels: Channels = "bgr",
) -> npt.NDArray[np.uint8]:
    """Draw the box, emotion and score of each face on a copy of an image.

    Args:
        image: a path, or a uint8 array of shape (rows, columns) or (rows, columns, 3).
        faces: the faces that were recognized in the image.
        save: file to write the copy to; its suffix, such as ``.png`` or ``.jpg``, decides the format.
        channels: order of the channels of a colour array; the copy is always BGR.

    Returns:
        The copy, uint8 BGR of shape (rows, columns, 3).

    Raises:
        DataError: the image cannot be read.
        InputError: the image or the faces have a wrong type or shape; or ``save`` is the image itself, has an unknown
            suffix or cannot be written.
    """
    faces = _to_list(faces)
    out = load_bgr(image, channels=channels)
    if isinstance(image, np.ndarray):  # an image that was read is a copy already
        out = out.copy()
    draw_faces(out, faces)
    if save is not None:
        _save(out, Path(check_path(save, "save")), Path(image) if isinstance(image, str | os.PathLike) else None)
    return out


def draw_faces(image: npt.NDArray[np.uint8], faces: Sequence[Expression]) -> None:
    """Draw the box, emotion and score of each face into an image.

    Args:
        image: uint8 BGR image of shape (rows, columns, 3).
        faces: the faces that were recognized in the image.
    """
    for face in faces:
        _draw_face(image, face)


def draw_summary(image: npt.NDArray[np.uint8], faces: Sequence[Expression]) -> npt.NDArray[np.uint8]:
    """Draw an image with its faces, and below it a bar for each score, for display in a notebook.

    Args:
        image: uint8 BGR image of shape (rows, columns, 3).
        faces: the faces that were recognized in the image.

    Returns:
        uint8 BGR image of shape (rows, 640, 3). The image takes up to 480 rows; at most twelve faces have bars.
    """
    rows, columns = image.shape[:2]
    scale = min(_WIDTH / columns, _HEIGHT / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    for face in faces:
        _draw_face(small, msgspec.structs.replace(face, box=Box(*(value * scale for value in face.box))))
    canvas = np.full((small.shape[0], _WIDTH, 3), _BACKGROUND, np.uint8)
    left = (_WIDTH - small.shape[1]) // 2
    canvas[:, left : left + small.shape[1]] = small
    drawn = faces[:_MAX_FACES]
    per_row = _WIDTH // _COLUMN
    strips = [canvas, *(_bars(drawn[start : start + per_row]) for start in range(0, len(drawn), per_row))]
    if left_out := len(faces) - len(drawn):
        strips.append(_note(f"and {counted(left_out, 'more face')}"))
    return np.vstack(strips)


def encode_png(image: npt.NDArray[np.uint8]) -> bytes:
    """Encode a BGR image as PNG."""
    return cv2.imencode(".png", image)[1].tobytes()


def _to_list(faces: object) -> list[Expression]:
    """Return the faces as a list, or raise InputError if they are anything but expressions."""
    found: list[Expression] = []
    for face in faces if isinstance(faces, Iterable) else [None]:
        if not isinstance(face, Expression):
            raise InputError(
                f"faces: {describe_value(faces)} is not the result for one image; give what the recognizer returned"
                " for it"
            )
        found.append(face)
    return found


def _draw_face(out: npt.NDArray[np.uint8], face: Expression) -> None:
    """Draw a face's box and label on a BGR image."""
    x, y, width, height = (round(value) for value in face.box)
    colour = emotion_colour(face.shown_emotion)
    size = min(max(width / 160, 0.4), 3.0)
    line = max(1, round(size * 2))
    cv2.rectangle(out, (x, y), (x + width, y + height), colour[::-1], line)
    text = f"{face.emotion} {face.score:.0%}" if face.reliable else face.shown_emotion
    (wide, high), base = cv2.getTextSize(text, _FONT, size, line)
    # Above the box where there is room, else inside it.
    bottom = y if y >= high + base else y + high + base
    left = max(0, min(x, out.shape[1] - wide))
    cv2.rectangle(out, (left, bottom - high - base), (left + wide, bottom), colour[::-1], cv2.FILLED)
    ink = (255, 255, 255) if colour.is_dark else (0, 0, 0)
    cv2.putText(out, text, (left, bottom - base // 2), _FONT, size, ink, line, cv2.LINE_AA)


def _bars(faces: Sequence[Expression]) -> npt.NDArray[np.uint8]:
    """Draw the scores of some faces side by side."""
    charts = [(face, _bars_of(face)) for face in faces]
    lines = max(len(bars) for _, bars in charts) + 2
    out = np.full((lines * _LINE, _WIDTH, 3), _BACKGROUND, np.uint8)
    for number, (face, bars) in enumerate(charts):
        left = number * _COLUMN + 20
        x, y = (round(value) for value in face.box[:2])
        _write(out, f"{face.shown_emotion[:_MAX_LETTERS]} at {x},{y}", left, 1, size=0.45)
        for line, (label, score) in enumerate(bars, start=2):
            _write(out, label[:_MAX_LETTERS], left, line)
            middle, start = line * _LINE - 4, left + 70
            end = start + round(score * 80)
            cv2.rectangle(out, (start, middle - 4), (end, middle + 3), emotion_colour(label)[::-1], cv2.FILLED)
            _write(out, f"{score:.0%}", end + 4, line)
    return out


def _bars_of(face: Expression) -> list[tuple[str, float]]:
    """Return label and score of each bar, in the model's order; of very many labels, only those with high scores."""
    bars = list(face.scores.items())
    return bars if len(bars) <= _MAX_LABELS else sorted(bars, key=lambda bar: -bar[1])[:_MAX_LABELS]


def _note(text: str) -> npt.NDArray[np.uint8]:
    out = np.full((_LINE + 6, _WIDTH, 3), _BACKGROUND, np.uint8)
    _write(out, text, 20, 1)
    return out


def _write(out: npt.NDArray[np.uint8], text: str, left: int, line: int, size: float = 0.38) -> None:
    cv2.putText(out, text, (left, line * _LINE), _FONT, size, _TEXT, 1, cv2.LINE_AA)


def _save(annotated: npt.NDArray[np.uint8], out: Path, original: Path | None) -> None:
    """Write an annotated copy, but never over the original."""
    if original is not None and out.exists() and out.samefile(original):
        raise InputError(f"{out}: is the image itself; save the annotated one under another name")
    try:
        ok, encoded = cv2.imencode(out.suffix, annotated)
    except cv2.error:
        ok = False
    if not ok:
        raise InputError(f"{out}: OpenCV cannot write this kind of image; end it in .png or .jpg")
    with replacing(out) as temporary:
        temporary.write_bytes(encoded.tobytes())
