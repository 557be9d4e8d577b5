"""What a detector that learnt from more images makes of a scene, cell by cell."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from fer_edge.detection.metrics import pairwise_iou
from fer_edge.errors import ModelError
from fer_edge_train.faces.recipe import STRIDES
from fer_edge_train.faces.targets import (
    BOX,
    COLUMNS,
    FACE,
    KIND,
    LANDMARKS,
    NOTHING,
    SEEN,
    WEIGHT,
    Marked,
    boxes_of,
    weights,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

_FIRM: Final = 0.05  # the weight from which on it is worth learning where a cell's face is
_SAME: Final = 0.5  # intersection over union of two boxes of one face
_MISSED: Final = 0.15  # how much surer the labels must be of a face than the teacher is of what it sees there
# Its points lie where four cells meet, and those of `fer_edge_train.faces.losses.cells_of` in the cells' middles.
# Moved by half a cell of the finest level, where most faces are, it tells of the same points there.
_APART: Final = STRIDES[0] // 2
# The shape of its input in an ONNX file, a protocol buffer: four dimensions, the last two by number, or by name.
_FIXED_SHAPE: Final = b"\n\2\x08\1\n\2\x08\3" + 2 * b"\n\3\x08\x80\5"
_ANY_SHAPE: Final = b"\n\2\x08\1\n\2\x08\3" + b"\n\3\x12\1h" + b"\n\3\x12\1w"
# They have nothing in common but that they are exceptions.
_REFUSALS: Final = tuple(
    getattr(onnxruntime_errors, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)
_ERRORS: Final = 3  # what ONNX Runtime tells of, and not that outputs are of another shape than the file says


class Teacher(NamedTuple):
    """Who is asked about every scene.

    Attributes:
        file: YuNet's ONNX file.
        sizes: times the scene's size at which it is asked, each of 1, 2 and 4; the larger, the smaller the faces that
            it sees.
    """

    file: Path
    sizes: tuple[int, ...] = (1,)


def check(teacher: Teacher) -> None:
    """Ask about a black image.

    Raises:
        ModelError: it cannot be asked.
    """
    try:
        answers(np.zeros((max(STRIDES), max(STRIDES)), np.uint8), teacher)
    except (KeyError, ValueError, *_REFUSALS) as error:
        why = " ".join(str(error).split())
        raise ModelError(f"{teacher.file}: no YuNet for images of 640x640 or of any size ({why})") from error


def answers(image: npt.NDArray[np.uint8], teacher: Teacher) -> npt.NDArray[np.float32]:
    """What YuNet says of every cell of a scene as it became: covered, dark, blurred.

    Learning all that a teacher says, of the same views, is what Beyer et al. 2022 (arXiv:2106.05237) call function
    matching.

    Args:
        image: uint8 grey, of shape (side, side).
        teacher: who is asked; of what it says of a cell at several sizes, the surest counts.

    Returns:
        Rows as those of `fer_edge_train.faces.targets.packed`, of shape (cells, 16), in the order of the loss's cells;
        of kind `NOTHING` where it says next to nothing.
    """
    moved = np.pad(image[_APART:, _APART:], (0, _APART), mode="edge")
    every = {stride: np.zeros(((len(image) // stride) ** 2, COLUMNS), np.float32) for stride in STRIDES}
    for times in teacher.sizes:
        said = _said(moved, times, teacher.file)
        for stride in STRIDES:
            if stride * times in STRIDES:
                rows = _rows(said, stride, times, len(image))
                surer = rows[:, WEIGHT] >= every[stride][:, WEIGHT]
                every[stride][surer] = rows[surer]
    return np.concatenate(list(every.values()))


def _said(image: npt.NDArray[np.uint8], times: int, file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The outputs of YuNet about an image at ``times`` its size, by their names."""
    if times > 1:
        image = np.asarray(cv2.resize(image, None, fx=times, fy=times, interpolation=cv2.INTER_LINEAR), np.uint8)
    network = _network(file)
    names = [output.name for output in network.get_outputs()]
    asked = np.repeat(image[None, None].astype(np.float32), 3, axis=1)
    return dict(zip(names, network.run(names, {network.get_inputs()[0].name: asked}), strict=True))


@cache
def _network(file: Path) -> onnxruntime.InferenceSession:
    """YuNet as ONNX Runtime has it, which takes two thirds of OpenCV's time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # others make other scenes meanwhile
    options.log_severity_level = _ERRORS
    # Its file asks for 640x640 pixels; the network, of convolutions alone, takes any. OpenCV knows so by itself.
    content = file.read_bytes().replace(_FIXED_SHAPE, _ANY_SHAPE)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _rows(said: Mapping[str, npt.NDArray[np.float32]], stride: int, times: int, side: int) -> npt.NDArray[np.float32]:
    """What it says of the cells of one level of a scene of ``side`` pixels that it saw at ``times`` its size."""
    across, level = side // stride, stride * times
    rows = np.zeros((across * across, COLUMNS), np.float32)
    corners = np.stack(np.divmod(np.arange(len(rows)), across)[::-1], axis=1).astype(np.float32)
    box = said[f"bbox_{level}"].reshape(-1, 4)
    middles, halves = corners + box[:, :2], np.exp(box[:, 2:]) / 2
    points = said[f"kps_{level}"].reshape(-1, 5, 2) + corners[:, None]
    rows[:, BOX] = np.concatenate((middles - halves, middles + halves), axis=1) * stride + _APART
    rows[:, LANDMARKS] = points.reshape(-1, 10) * stride + _APART
    # As its authors have it: how surely a face, and how surely anything.
    sure = [np.clip(said[f"{what}_{level}"].ravel(), 0, 1) for what in ("cls", "obj")]
    rows[:, WEIGHT] = weights(np.sqrt(sure[0] * sure[1]))
    rows[:, KIND] = np.where(rows[:, WEIGHT] >= _FIRM, FACE, NOTHING)
    return rows


def missed(marked: Marked, cells: npt.NDArray[np.float32]) -> Marked:
    """The faces of a scene that the teacher does not see, or hardly, for their labels are of a larger image.

    Args:
        marked: what is known of it, with a score of 0 where nobody has seen a face as it became.
        cells: the teacher's `answers`.
    """
    seen = cells[cells[:, WEIGHT] >= SEEN]
    shared = pairwise_iou(boxes_of(seen), marked.boxes)
    surest = np.where(shared >= _SAME, seen[:, WEIGHT, None], 0).max(axis=0, initial=0)
    left = (marked.scores > 0) & (weights(marked.scores) - surest > _MISSED)
    return Marked(marked.boxes[left], marked.landmarks[left], marked.scores[left], marked.ignored)
