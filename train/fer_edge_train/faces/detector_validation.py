"""Measuring a Keras detector on the validation images, as the device runs a converted one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import keras
import numpy as np

from fer_edge.detection.metrics import ImageDetections, match
from fer_edge.detection.postprocess import Level, Output, RawDetections, decode_outputs, nms
from fer_edge_train.faces.detector_batches import PIXELS
from fer_edge_train.faces.detector_recipe import STRIDES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fer_edge.datasets.faces import FaceImage

MIN_SIDE: Final = 20.0  # pixels; detectors are compared by faces of at least this size
FALSE_ALARMS: Final = 0.015  # false alarms per image at which detectors are compared
_BATCH: Final = 32
_MAX_PIXELS: Final = _BATCH * 640 * 640  # in a batch, because photographs may be large
_MIN_SCORE: Final = 0.02  # of detections, low enough for the whole curve
_PADDING: Final = 128


def detect_faces(model: keras.Model, grays: Sequence[npt.NDArray[np.uint8]]) -> list[ImageDetections]:
    """Detect faces in grey images of any sizes.

    Args:
        model: result of `fer_edge_train.faces.detector_network.to_inference_detector`.
        grays: uint8 images.
    """
    stride = max(STRIDES)
    rows, columns = (-(-max(gray.shape[axis] for gray in grays) // stride) * stride for axis in (0, 1))
    batch = min(_BATCH, max(_MAX_PIXELS // (rows * columns), 1))
    detections = []
    for start in range(0, len(grays), batch):
        some = grays[start : start + batch]
        # All batches have one shape, so that a compiled backend compiles once.
        padded = np.full((batch, rows, columns), _PADDING, np.uint8)
        for place, gray in zip(padded, some, strict=False):
            place[: gray.shape[0], : gray.shape[1]] = gray
        outputs = [np.asarray(output) for output in model.predict_on_batch(PIXELS.normalize(padded))]
        detections += [_decode([output[i : i + 1] for output in outputs], gray.shape) for i, gray in enumerate(some)]
    return detections


def _decode(outputs: list[npt.NDArray[np.float32]], shape: tuple[int, ...]) -> ImageDetections:
    tensors = [Output(values) for values in outputs]
    levels = [Level(stride, *tensors[3 * i : 3 * i + 3]) for i, stride in enumerate(STRIDES)]
    return clip_to_image(nms(decode_outputs(levels, _MIN_SCORE)), shape)


def clip_to_image(detections: RawDetections, shape: tuple[int, ...]) -> ImageDetections:
    """Clip boxes to an image of ``shape``, and drop those outside."""
    low = np.clip(detections.boxes[:, :2], 0, shape[::-1])
    size = np.clip(detections.boxes[:, :2] + detections.boxes[:, 2:], 0, shape[::-1]) - low
    inside = np.asarray((size > 0).all(axis=1))
    return ImageDetections(np.concatenate((low, size), axis=1)[inside].astype(np.float32), detections.scores[inside])


class DetectorValidation(keras.callbacks.Callback):
    """Adds average precision, and recall at `FALSE_ALARMS`, of faces of at least `MIN_SIDE` pixels to the logs."""

    def __init__(
        self, detect: Callable[[], Sequence[ImageDetections]], images: Sequence[FaceImage], epochs: int, interval: int
    ) -> None:
        """Measure a detector during training.

        Args:
            detect: detects faces in the images with the current weights.
            images: the faces in each image.
            epochs: number of epochs. The last one is always measured.
            interval: measure after every so many epochs.
        """
        super().__init__()
        self._detect, self._images, self._epochs, self._interval = detect, images, epochs, interval

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure before other callbacks read the logs."""
        if logs is None or ((epoch + 1) % self._interval and epoch + 1 < self._epochs):
            return
        matches = match(self._detect(), self._images)
        logs["val_average_precision"] = matches.average_precision(MIN_SIDE)
        logs["val_recall"] = matches.recall(matches.threshold_at(FALSE_ALARMS), MIN_SIDE)
