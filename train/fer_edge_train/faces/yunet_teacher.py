"""YuNet as a teacher: what a detector that learnt from more images answers for each cell of a scene."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import cv2
import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_errors

from fer_edge.detection.metrics import pairwise_iou
from fer_edge.errors import ModelError
from fer_edge_train.faces.detector_recipe import STRIDES
from fer_edge_train.faces.detector_targets import (
    BOX,
    COLUMNS,
    EMPTY,
    FACE,
    KIND,
    LANDMARKS,
    MIN_TEACHER_WEIGHT,
    WEIGHT,
    Annotations,
    row_boxes,
    score_weights,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

_MIN_BOX_WEIGHT: Final = 0.05  # minimum weight with which a cell learns where its face is
_SAME_FACE_IOU: Final = 0.5
_SAME_OBJECT_IOU: Final = 0.4  # a teacher's box on an object is less exact than one on a face
_MISSED_MARGIN: Final = 0.15  # a face is missed if its annotation weighs so much more than the teacher's answer
# YuNet's points lie where four cells meet, and those of `fer_edge_train.faces.detector_assignment.cell_grid` in the
# middle of a cell. If the image is moved by half a cell of the finest level, where most faces are, both are the same.
_SHIFT: Final = STRIDES[0] // 2
# The shape of the input in an ONNX file, a protocol buffer: four dimensions, the last two by number, or by name.
_FIXED_SHAPE: Final = b"\n\2\x08\1\n\2\x08\3" + 2 * b"\n\3\x08\x80\5"
_ANY_SHAPE: Final = b"\n\2\x08\1\n\2\x08\3" + b"\n\3\x12\1h" + b"\n\3\x12\1w"
# These errors have no common base class but Exception.
_RUNTIME_ERRORS: Final = tuple(
    getattr(onnxruntime_errors, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
)
_LOG_ERRORS: Final = 3  # log level without the warning that outputs have another shape than the file says


class Teacher(NamedTuple):
    """A teacher for every scene.

    Attributes:
        file: YuNet's ONNX file.
        scales: factors of the scene's size at which the teacher sees it, each of 1, 2 and 4. At a larger one it finds
            smaller faces.
    """

    file: Path
    scales: tuple[int, ...] = (1,)


def check_teacher(teacher: Teacher) -> None:
    """Run a teacher on a black image.

    Raises:
        ModelError: it cannot be run.
    """
    try:
        compute_targets(np.zeros((max(STRIDES), max(STRIDES)), np.uint8), teacher)
    except (KeyError, ValueError, *_RUNTIME_ERRORS) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{teacher.file}: not a YuNet for images of 640x640 or of any size ({reason})") from error


def compute_targets(image: npt.NDArray[np.uint8], teacher: Teacher) -> npt.NDArray[np.float32]:
    """Compute what YuNet answers for every cell of a scene in its final form: occluded, dark, blurred.

    Learning all outputs of a teacher for the same views is what Beyer et al. 2022 (arXiv:2106.05237) call function
    matching.

    Args:
        image: uint8 grey, of shape (side, side).
        teacher: with several scales, the answer with the highest weight counts for each cell.

    Returns:
        Rows like those of `fer_edge_train.faces.detector_targets.pack`, of shape (cells, 16), in the order of
        `fer_edge_train.faces.detector_assignment.cell_grid`. Their kind is `EMPTY` where the weight is too low.
    """
    shifted = np.pad(image[_SHIFT:, _SHIFT:], (0, _SHIFT), mode="edge")
    rows_by_stride = {stride: np.zeros(((len(image) // stride) ** 2, COLUMNS), np.float32) for stride in STRIDES}
    for scale in teacher.scales:
        outputs = _run(shifted, scale, teacher.file)
        for stride in STRIDES:
            if stride * scale in STRIDES:
                rows = _decode(outputs, stride, scale, len(image))
                better = rows[:, WEIGHT] >= rows_by_stride[stride][:, WEIGHT]
                rows_by_stride[stride][better] = rows[better]
    return np.concatenate(list(rows_by_stride.values()))


def contradict(
    teacher_targets: npt.NDArray[np.float32], annotations: Annotations, not_faces: npt.NDArray[np.float32]
) -> None:
    """Take back the teacher's answers for objects that are known to be no faces.

    Args:
        teacher_targets: result of `compute_targets`; is changed.
        annotations: faces of the scene. The teacher's answers for these stay.
        not_faces: boxes of the objects, float32 of shape (n, 4).
    """
    seen = np.flatnonzero(teacher_targets[:, KIND] != EMPTY)
    boxes = row_boxes(teacher_targets[seen])
    of_object, of_face = (pairwise_iou(boxes, some).max(axis=1, initial=0) for some in (not_faces, annotations.boxes))
    teacher_targets[seen[(of_object >= _SAME_OBJECT_IOU) & (of_object > of_face)]] = 0


def missed_faces(annotations: Annotations, teacher_targets: npt.NDArray[np.float32]) -> Annotations:
    """Select the faces of a scene that the teacher misses or nearly misses.

    It may: their annotations come from a larger image.

    Args:
        annotations: of the scene; faces with a score of 0 are never selected.
        teacher_targets: result of `compute_targets`.
    """
    visible = teacher_targets[teacher_targets[:, WEIGHT] >= MIN_TEACHER_WEIGHT]
    overlap = pairwise_iou(row_boxes(visible), annotations.boxes)
    found = np.where(overlap >= _SAME_FACE_IOU, visible[:, WEIGHT, None], 0).max(axis=0, initial=0)
    missed = (annotations.scores > 0) & (score_weights(annotations.scores) - found > _MISSED_MARGIN)
    return Annotations(
        annotations.boxes[missed], annotations.landmarks[missed], annotations.scores[missed], annotations.ignored
    )


def _run(image: npt.NDArray[np.uint8], scale: int, file: Path) -> dict[str, npt.NDArray[np.float32]]:
    """Compute YuNet's outputs, by name, for an image enlarged by ``scale``."""
    if scale > 1:
        image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)
    network = _load(file)
    names = [output.name for output in network.get_outputs()]
    inputs = np.repeat(image[None, None].astype(np.float32), 3, axis=1)
    return dict(zip(names, network.run(names, {network.get_inputs()[0].name: inputs}), strict=True))


@cache
def _load(file: Path) -> onnxruntime.InferenceSession:
    """Load YuNet with ONNX Runtime, which takes two thirds of OpenCV's time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # other threads make other scenes meanwhile
    options.log_severity_level = _LOG_ERRORS
    # The file names 640x640 pixels, but a network of convolutions takes any size. OpenCV does not need this change.
    content = file.read_bytes().replace(_FIXED_SHAPE, _ANY_SHAPE)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _decode(
    outputs: Mapping[str, npt.NDArray[np.float32]], stride: int, scale: int, side: int
) -> npt.NDArray[np.float32]:
    """Make the rows of one level of a scene of ``side`` pixels from YuNet's outputs at ``scale``."""
    across, level = side // stride, stride * scale
    rows = np.zeros((across * across, COLUMNS), np.float32)
    corners = np.stack(np.divmod(np.arange(len(rows)), across)[::-1], axis=1).astype(np.float32)
    box = outputs[f"bbox_{level}"].reshape(-1, 4)
    centres, halves = corners + box[:, :2], np.exp(box[:, 2:]) / 2
    points = outputs[f"kps_{level}"].reshape(-1, 5, 2) + corners[:, None]
    rows[:, BOX] = np.concatenate((centres - halves, centres + halves), axis=1) * stride + _SHIFT
    rows[:, LANDMARKS] = points.reshape(-1, 10) * stride + _SHIFT
    # YuNet's score is the geometric mean of two: that of a face and that of any object.
    parts = [np.clip(outputs[f"{name}_{level}"].ravel(), 0, 1) for name in ("cls", "obj")]
    rows[:, WEIGHT] = score_weights(np.sqrt(parts[0] * parts[1]))
    rows[:, KIND] = np.where(rows[:, WEIGHT] >= _MIN_BOX_WEIGHT, FACE, EMPTY)
    return rows
