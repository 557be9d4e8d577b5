"""Looking for faces in the validation images with a Keras model, as the device does with a converted one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from fer_edge.detection.metrics import ImageDetections, match
from fer_edge.detection.postprocess import Level, Output, RawDetections, decode, nms
from fer_edge_train.faces.batches import PIXELS
from fer_edge_train.faces.recipe import STRIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceImage

SIDE: Final = 20.0  # pixels: the faces that a detector is chosen by are at least as large
ALARMS: Final = 0.015  # false alarms an image at which it is chosen
_BATCH: Final = 32
_PIXELS: Final = _BATCH * 640 * 640  # of a batch at most: photographs may be large
_LEAST_SCORE: Final = 0.02  # of what is looked at, to see the whole curve
_PADDING: Final = 128


def find(model: keras.Model, grays: Sequence[npt.NDArray[np.uint8]]) -> list[ImageDetections]:
    """What a network of `fer_edge_train.faces.network.as_used` finds in grey images of any sizes."""
    stride = max(STRIDES)
    rows, columns = (-(-max(gray.shape[axis] for gray in grays) // stride) * stride for axis in (0, 1))
    batch = min(_BATCH, max(_PIXELS // (rows * columns), 1))
    found = []
    for start in range(0, len(grays), batch):
        some = grays[start : start + batch]
        # One shape for all, so that a backend that compiles does so once.
        padded = np.full((batch, rows, columns), _PADDING, np.uint8)
        for place, gray in zip(padded, some, strict=False):
            place[: gray.shape[0], : gray.shape[1]] = gray
        outputs = [np.asarray(output) for output in model.predict_on_batch(PIXELS.normalise(padded))]
        found += [_found([output[i : i + 1] for output in outputs], gray.shape) for i, gray in enumerate(some)]
    return found


def _found(outputs: list[npt.NDArray[np.float32]], shape: tuple[int, ...]) -> ImageDetections:
    each = [Output(values) for values in outputs]
    levels = [Level(stride, *each[3 * i : 3 * i + 3]) for i, stride in enumerate(STRIDES)]
    return within(nms(decode(levels, _LEAST_SCORE)), shape)


def within(cells: RawDetections, shape: tuple[int, ...]) -> ImageDetections:
    """Faces of an image of ``shape``, cut at its edges."""
    low = np.clip(cells.boxes[:, :2], 0, shape[::-1])
    size = np.clip(cells.boxes[:, :2] + cells.boxes[:, 2:], 0, shape[::-1]) - low
    seen = np.asarray((size > 0).all(axis=1))
    return ImageDetections(np.concatenate((low, size), axis=1)[seen].astype(np.float32), cells.scores[seen])


class Validation(keras.callbacks.Callback):
    """Adds average precision, and recall at `ALARMS`, for faces of `SIDE` pixels and more to the logs."""

    def __init__(
        self, look: Callable[[], Sequence[ImageDetections]], images: Sequence[FaceImage], epochs: int, every: int
    ) -> None:
        """Look at images after each ``every`` of ``epochs``.

        Args:
            look: finds faces in them, by weights that change as the model learns.
            images: the faces in each.
            epochs: in all; after the last they are looked at, too.
            every: how many of them pass between two looks.
        """
        super().__init__()
        self._look, self._images, self._epochs, self._every = look, images, epochs, every

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, before others read the logs."""
        if logs is None or ((epoch + 1) % self._every and epoch + 1 < self._epochs):
            return
        matches = match(self._look(), self._images)
        logs["val_average_precision"] = matches.average_precision(SIDE)
        logs["val_recall"] = matches.recall(matches.threshold_at(ALARMS), SIDE)
