"""What a detector that learnt from more pictures makes of a scene, cell by cell."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.detection_metrics import overlaps
from fer_edge_train.faces.recipe import STRIDES
from fer_edge_train.faces.targets import BOX, COLUMNS, FACE, KIND, LANDMARKS, NOTHING, SEEN, WEIGHT, Marked, weights

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

_FIRM: Final = 0.05  # the weight from which on it is worth learning where a cell's face is
_SAME: Final = 0.5  # intersection over union of two boxes of one face
_MISSED: Final = 0.15  # how much surer the labels must be of a face than the teacher is of what it sees there
# Its points lie where four cells meet, and those of `fer_edge_train.faces.losses.cells_of` in the cells' middles.
# Moved by half a cell of the finest level, where most faces are, it tells of the same points there.
_APART: Final = STRIDES[0] // 2
_networks = threading.local()  # OpenCV's networks serve one thread at a time


def answers(picture: npt.NDArray[np.uint8], teacher: Path) -> npt.NDArray[np.float32]:
    """What YuNet says of every cell of a scene as it became: covered, dark, blurred.

    Learning all that a teacher says, of the same views, is what Beyer et al. 2022 (arXiv:2106.05237) call function
    matching.

    Args:
        picture: uint8 grey, of shape (side, side).
        teacher: YuNet's ONNX file.

    Returns:
        Rows as those of `fer_edge_train.faces.targets.packed`, of shape (cells, 16), in the order of the loss's cells;
        of kind `NOTHING` where it says next to nothing.
    """
    if getattr(_networks, "file", None) != teacher:
        _networks.network, _networks.file = cv2.dnn.readNet(str(teacher)), teacher
    network = _networks.network
    names = network.getUnconnectedOutLayersNames()
    moved = np.pad(picture[_APART:, _APART:], (0, _APART), mode="edge").astype(np.float32)
    network.setInput(np.repeat(moved[None, None], 3, axis=1))
    said = dict(zip(names, network.forward(names), strict=True))
    every = []
    for stride in STRIDES:
        across = len(picture) // stride
        rows = np.zeros((across * across, COLUMNS), np.float32)
        corners = np.stack(np.divmod(np.arange(len(rows)), across)[::-1], axis=1).astype(np.float32)
        box = said[f"bbox_{stride}"].reshape(-1, 4)
        middles, halves = corners + box[:, :2], np.exp(box[:, 2:]) / 2
        points = said[f"kps_{stride}"].reshape(-1, 5, 2) + corners[:, None]
        rows[:, BOX] = np.concatenate((middles - halves, middles + halves), axis=1) * stride + _APART
        rows[:, LANDMARKS] = points.reshape(-1, 10) * stride + _APART
        # As its authors have it: how surely a face, and how surely anything.
        sure = [np.clip(said[f"{what}_{stride}"].ravel(), 0, 1) for what in ("cls", "obj")]
        rows[:, WEIGHT] = weights(np.sqrt(sure[0] * sure[1]))
        rows[:, KIND] = np.where(rows[:, WEIGHT] >= _FIRM, FACE, NOTHING)
        every.append(rows)
    return np.concatenate(every)


def missed(marked: Marked, cells: npt.NDArray[np.float32]) -> Marked:
    """The faces of a scene that the teacher does not see, or hardly, for their labels are of a larger picture.

    Args:
        marked: what is known of it, with a score of 0 where nobody has seen a face as it became.
        cells: the teacher's `answers`.
    """
    seen = cells[cells[:, WEIGHT] >= SEEN]
    corners = seen[:, BOX]
    shared = overlaps(np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1), marked.boxes)
    surest = np.where(shared >= _SAME, seen[:, WEIGHT, None], 0).max(axis=0, initial=0)
    left = (marked.scores > 0) & (weights(marked.scores) - surest > _MISSED)
    return Marked(marked.boxes[left], marked.landmarks[left], marked.scores[left], marked.ignored)
