"""Drawing what was recognized on a copy of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

from fer_edge.errors import InputError
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.image_io import read_colour

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from fer_edge.expression import Expression


# BGR; readable on dark and light, and apart from one another for most colour-blind people (Okabe & Ito 2008).
_COLOURS = ((0, 94, 213), (66, 228, 240), (167, 121, 204), (115, 158, 0), (178, 114, 0), (0, 159, 230), (233, 180, 86))


def annotate(image: npt.NDArray[np.uint8], found: Sequence[Expression]) -> npt.NDArray[np.uint8]:
    """Draw boxes, emotions and scores on a copy of a BGR image of shape (rows, columns, 3)."""
    out = image.copy()
    for face in found:
        x, y, width, height = (round(value) for value in face.box)
        colour = _COLOURS[list(face.scores).index(face.emotion) % len(_COLOURS)]
        size = min(max(width / 160, 0.4), 3.0)
        line = max(1, round(size * 2))
        cv2.rectangle(out, (x, y), (x + width, y + height), colour, line)
        text = f"{face.emotion} {face.score:.0%}"
        (wide, high), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, line)
        # Above the box where there is room, else inside it.
        bottom = y if y >= high + base else y + high + base
        left = max(0, min(x, out.shape[1] - wide))
        cv2.rectangle(out, (left, bottom - high - base), (left + wide, bottom), colour, cv2.FILLED)
        dark = sum(colour) < 400
        ink = (255, 255, 255) if dark else (0, 0, 0)
        cv2.putText(out, text, (left, bottom - base // 2), cv2.FONT_HERSHEY_SIMPLEX, size, ink, line, cv2.LINE_AA)
    return out


def save_annotated(image: Path, found: Sequence[Expression], out: Path) -> None:
    """Write an annotated copy of an image, in the format of ``out``'s ending.

    Raises:
        DataError: the image cannot be read.
        InputError: it is the image itself, the ending is unknown or the place cannot be written to.
    """
    if out.exists() and out.samefile(image):
        raise InputError(f"{out}: is the image itself; save the annotated one under another name")
    try:
        ok, encoded = cv2.imencode(out.suffix, annotate(read_colour(image), found))
    except cv2.error:
        ok = False
    if not ok:
        raise InputError(f"{out}: OpenCV cannot write this kind of image; end it in .png or .jpg")
    with replacing(out) as temporary:
        temporary.write_bytes(encoded.tobytes())
