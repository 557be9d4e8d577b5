"""Write contact sheets: images made of many thumbnails."""

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
        path: a ``.jpg`` file.
        thumbnails: at least one encoded grey image, all of one size.
    """
    tiles = [decode_gray(thumbnail, "thumbnail") for thumbnail in thumbnails]
    columns = math.ceil(math.sqrt(len(tiles)))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    sheet = np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])
    with replacing(path) as temporary:
        temporary.write_bytes(cv2.imencode(".jpg", sheet)[1].tobytes())
