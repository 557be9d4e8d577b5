"""A contact sheet: many small images in one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.image_io import decode_gray

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_sheet(path: Path, thumbnails: Sequence[bytes]) -> None:
    """Write a contact sheet.

    Args:
        path: a ``.jpg``.
        thumbnails: encoded grey images of one size, at least one.
    """
    tiles = [decode_gray(one, "thumbnail") for one in thumbnails]
    across = math.ceil(math.sqrt(len(tiles)))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % across)
    sheet = np.vstack([np.hstack(tiles[at : at + across]) for at in range(0, len(tiles), across)])
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".jpg", sheet)[1].tobytes())
