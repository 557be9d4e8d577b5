"""Converting the outputs of a detection network to faces: decoding cells and non-maximum suppression.

The network is anchor-free, as in Tian et al. 2019 (arXiv:1904.01355): each cell of a level predicts how likely it lies
on a face, and the position of that face relative to the cell's centre.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np

from fer_edge.geometry import Box, Face, make_landmarks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

NMS_IOU: Final = 0.4  # intersection over union above which two boxes belong to one face
_MAX_DETECTIONS: Final = 300  # before suppression, so that a frame of noise does not take forever
_MAX_OFFSET: Final = 64.0  # limit of offsets in cells and of logarithms, far beyond any face, to prevent overflow


class Output(NamedTuple):
    """One output of the network.

    Attributes:
        values: stored elements, of shape (1, rows, columns, channels).
        scale: real value of one quantization step; 0 if the output is not quantized.
        zero_point: stored value that represents 0.
    """

    values: npt.NDArray[Any]
    scale: float = 0.0
    zero_point: int = 0

    def dequantize(self, cells: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Return the real values of some cells, of shape (cells, channels), limited to +-`_MAX_OFFSET`."""
        real = self.values.reshape(-1, self.values.shape[-1])[cells].astype(np.float32)
        if self.scale:
            real -= np.float32(self.zero_point)
            real *= np.float32(self.scale)
        # np.clip would take three times as long for so few numbers.
        return np.minimum(np.maximum(real, -_MAX_OFFSET, out=real), _MAX_OFFSET, out=real)

    def quantize(self, real: float) -> float:
        """Return the lowest stored element whose real value is at least ``real``."""
        # The tolerance makes sure that the exact value of a step gives that step and not the next one.
        return math.ceil(real / self.scale + self.zero_point - 1e-4) if self.scale else real


class Level(NamedTuple):
    """The outputs at one resolution.

    Attributes:
        stride: distance in pixels between neighbouring cells.
        score: confidence that the cell lies on a face, 0..1; one channel.
        box: centre of the face relative to the cell's centre, divided by the stride, and the logarithms of width and
            height divided by the stride; four channels.
        landmarks: five points relative to the cell's centre, divided by the stride, as x, y, x, y, ...; ten channels.
    """

    stride: int
    score: Output
    box: Output
    landmarks: Output


class RawDetections(NamedTuple):
    """Detections before or after suppression, in pixels; before suppression there are several of each face.

    Attributes:
        boxes: left, top, width and height, float32 of shape (n, 4).
        scores: confidence, 0..1, float32 of shape (n,).
        landmarks: x and y of the left and right eye (as seen in the image), the nose tip, and the left and right
            corner of the mouth, float32 of shape (n, 5, 2).
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]


NO_DETECTIONS: Final = RawDetections(
    np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
)


def decode_outputs(levels: Sequence[Level], threshold: float, *, landmarks: bool = True) -> RawDetections:
    """Decode the cells whose score reaches a threshold.

    If there are more than 300, the best 300 are kept. Cells with values that are not finite are dropped.

    Args:
        levels: outputs of the network.
        threshold: lowest score, 0..1.
        landmarks: whether to decode the landmarks; otherwise they are zeros.

    Returns:
        Detections in pixels of the network's input.
    """
    found = NO_DETECTIONS
    for level in levels:
        cells = np.flatnonzero(level.score.values >= level.score.quantize(threshold))
        if len(cells):
            more = _decode_cells(level, cells, landmarks=landmarks)
            found = (
                more if found is NO_DETECTIONS else RawDetections(*map(np.concatenate, zip(found, more, strict=True)))
            )
    if len(found.scores) <= _MAX_DETECTIONS:
        return found
    return select(found, np.argsort(-found.scores, kind="stable")[:_MAX_DETECTIONS])


def nms(detections: RawDetections, max_iou: float = NMS_IOU) -> RawDetections:
    """Keep the best detection of each face.

    Greedy non-maximum suppression, as in Felzenszwalb et al. 2010 (doi:10.1109/TPAMI.2009.167).

    Args:
        detections: any number of detections.
        max_iou: intersection over union, 0..1, above which two detections belong to one face.
    """
    if len(detections.scores) < 2:
        return detections
    kept = cv2.dnn.NMSBoxes(detections.boxes.tolist(), detections.scores.tolist(), 0.0, max_iou)
    return select(detections, np.asarray(kept, np.intp).ravel())


def rescale(detections: RawDetections, vertical: float, horizontal: float) -> RawDetections:
    """Multiply the vertical and horizontal coordinates of detections by a factor each."""
    if vertical == horizontal == 1:
        return detections
    factors = np.array((horizontal, vertical), np.float32)
    return RawDetections(
        detections.boxes * np.concatenate((factors, factors)), detections.scores, detections.landmarks * factors
    )


def drop_nonfinite(detections: RawDetections) -> RawDetections:
    """Drop the detections with values that are infinite or not a number."""
    if not len(detections.scores):
        return detections
    finite = np.isfinite(detections.boxes).all(axis=1) & np.isfinite(detections.scores)
    finite &= np.isfinite(detections.landmarks).all(axis=(1, 2))
    return select(detections, finite)


def select(detections: RawDetections, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> RawDetections:
    """Select some detections by their numbers or by a mask."""
    return RawDetections(*(values[index] for values in detections))


def to_faces(detections: RawDetections, shape: tuple[int, ...], min_side: float) -> Iterator[Face]:
    """Convert detections to faces, with the boxes clipped to the image.

    Args:
        detections: one detection of each face, in pixels of the image.
        shape: rows and columns of the image.
        min_side: longer side of the smallest face, in pixels; smaller faces are dropped.
    """
    for (x, y, width, height), score, points in zip(
        detections.boxes.tolist(), detections.scores.tolist(), detections.landmarks, strict=True
    ):
        left, right = (min(max(value, 0.0), float(shape[1])) for value in (x, x + width))
        top, bottom = (min(max(value, 0.0), float(shape[0])) for value in (y, y + height))
        if right > left and bottom > top and max(width, height) >= min_side:
            yield Face(Box(left, top, right - left, bottom - top), score, make_landmarks(points))


def _decode_cells(level: Level, cells: npt.NDArray[np.intp], *, landmarks: bool) -> RawDetections:
    stride = np.float32(level.stride)
    centres = np.empty((len(cells), 2), np.float32)
    centres[:, 1], centres[:, 0] = np.divmod(cells, level.score.values.shape[2])
    centres += np.float32(0.5)
    box = level.box.dequantize(cells)
    sizes = np.exp(box[:, 2:])
    boxes = np.concatenate((centres + box[:, :2] - sizes / 2, sizes), axis=1) * stride
    points = np.zeros((len(cells), 5, 2), np.float32)
    if landmarks:
        points = (level.landmarks.dequantize(cells).reshape(-1, 5, 2) + centres[:, None]) * stride
    found = RawDetections(boxes, level.score.dequantize(cells)[:, 0], points)
    if level.score.scale and level.box.scale and level.landmarks.scale:  # integers are always finite
        return found
    return drop_nonfinite(found)
