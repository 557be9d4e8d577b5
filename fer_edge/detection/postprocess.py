"""From what a face detector's network gives to faces: its cells decoded, and one face kept of those that overlap.

Anchor-free, after Tian et al. 2019 (arXiv:1904.01355): every cell of a level tells how surely it lies on a face and
where, from its own centre, that face is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

OVERLAP: Final = 0.4  # intersection over union, from which on two boxes are of one face
_MOST: Final = 300  # cells that are looked at: a frame of noise must not take for ever
_FAR: Final = 64.0  # an offset in cells, or a logarithm, beyond which there is no face but numbers that overflow


class Output(NamedTuple):
    """One output of the network.

    Attributes:
        values: stored elements, of shape (1, rows, columns, channels).
        scale: real value of one step, 0 where it is not quantised.
        zero_point: the stored value that stands for 0.
    """

    values: npt.NDArray[Any]
    scale: float = 0.0
    zero_point: int = 0

    def at(self, cells: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        """Real values of some cells, of shape (cells, channels), none of them far from any image."""
        real = self.values.reshape(-1, self.values.shape[-1])[cells].astype(np.float32)
        if self.scale:
            real -= np.float32(self.zero_point)
            real *= np.float32(self.scale)
        # Of so few numbers, np.clip takes three times as long.
        return np.minimum(np.maximum(real, -_FAR, out=real), _FAR, out=real)

    def stored(self, real: float) -> float:
        """The least stored element that stands for so much."""
        # A step's own value comes back as that step, not as the next one.
        return math.ceil(real / self.scale + self.zero_point - 1e-4) if self.scale else real


class Level(NamedTuple):
    """The outputs of one resolution.

    Attributes:
        stride: pixels between neighbouring cells.
        score: how surely a face is there, 0..1, one channel.
        box: centre of the face from the cell's centre, over the stride; logarithms of width and height over the
            stride; four channels.
        landmarks: five points from the cell's centre, over the stride, as x and y in turn; ten channels.
    """

    stride: int
    score: Output
    box: Output
    landmarks: Output


class RawDetections(NamedTuple):
    """Faces that cells tell of, in pixels of the network's input; several of each face.

    Attributes:
        boxes: left, top, width and height, float32 of shape (n, 4).
        scores: 0..1, float32 of shape (n,).
        landmarks: eye on the image's left, other eye, nose tip, left and right corner of the mouth, as x and y,
            float32 of shape (n, 5, 2).
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]


NO_DETECTIONS: Final = RawDetections(
    np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty((0, 5, 2), np.float32)
)


def decode(levels: Sequence[Level], threshold: float, *, landmarks: bool = True) -> RawDetections:
    """The cells with a score of ``threshold``, 0..1, or more; where there are very many, the best of them.

    What is no number or far from any image is left out.

    Args:
        levels: what the network gives.
        threshold: see above.
        landmarks: whether they are wanted; without, they are zeros.
    """
    found = NO_DETECTIONS
    for level in levels:
        cells = np.flatnonzero(level.score.values >= level.score.stored(threshold))
        if len(cells):
            more = _decode(level, cells, landmarks=landmarks)
            found = (
                more if found is NO_DETECTIONS else RawDetections(*map(np.concatenate, zip(found, more, strict=True)))
            )
    return found if len(found.scores) <= _MOST else chosen(found, np.argsort(-found.scores, kind="stable")[:_MOST])


def suppress(cells: RawDetections, overlap: float = OVERLAP) -> RawDetections:
    """The best cell of each face: greedily by score, what overlaps a better one is of the same face.

    Non-maximum suppression as in Felzenszwalb et al. 2010 (doi:10.1109/TPAMI.2009.167).

    Args:
        cells: of any number.
        overlap: intersection over union, 0..1, above which two are of one face.
    """
    if len(cells.scores) < 2:
        return cells
    kept = cv2.dnn.NMSBoxes(cells.boxes.tolist(), cells.scores.tolist(), 0.0, overlap)
    return chosen(cells, np.asarray(kept, np.intp).ravel())


def scaled(cells: RawDetections, down: float, across: float) -> RawDetections:
    """The same faces in an image of ``down`` times as many rows and ``across`` times as many columns."""
    if down == across == 1:
        return cells
    by = np.array((across, down), np.float32)
    return RawDetections(cells.boxes * np.concatenate((by, by)), cells.scores, cells.landmarks * by)


def sound(cells: RawDetections, threshold: float) -> RawDetections:
    """The cells with a score of ``threshold``, 0..1, or more, less those in which something is no number."""
    cells = chosen(cells, cells.scores >= threshold)
    if not len(cells.scores):
        return cells
    numbers = np.isfinite(cells.boxes).all(axis=1) & np.isfinite(cells.landmarks).all(axis=(1, 2))
    return chosen(cells, np.asarray(numbers))


def _decode(level: Level, cells: npt.NDArray[np.intp], *, landmarks: bool) -> RawDetections:
    stride = np.float32(level.stride)
    centres = np.empty((len(cells), 2), np.float32)
    centres[:, 1], centres[:, 0] = np.divmod(cells, level.score.values.shape[2])
    centres += np.float32(0.5)
    box = level.box.at(cells)
    sizes = np.exp(box[:, 2:])
    boxes = np.concatenate((centres + box[:, :2] - sizes / 2, sizes), axis=1) * stride
    points = np.zeros((len(cells), 5, 2), np.float32)
    if landmarks:
        points = (level.landmarks.at(cells).reshape(-1, 5, 2) + centres[:, None]) * stride
    found = RawDetections(boxes, level.score.at(cells)[:, 0], points)
    if level.score.scale and level.box.scale and level.landmarks.scale:  # integers are always numbers
        return found
    sound = np.isfinite(boxes).all(axis=1) & np.isfinite(found.scores) & np.isfinite(found.landmarks).all(axis=(1, 2))
    return chosen(found, sound)


def chosen(cells: RawDetections, which: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> RawDetections:
    """Some of the cells."""
    return RawDetections(*(values[which] for values in cells))
