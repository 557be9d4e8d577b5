"""Recognizing the expressions of the faces in an image."""

from __future__ import annotations

import os
from collections.abc import Iterable
from threading import Lock
from typing import TYPE_CHECKING, NoReturn, cast, overload

import numpy as np

from fer_edge.classification.classifier import classify_faces
from fer_edge.classification.crop import crop_whole_image
from fer_edge.errors import InputError
from fer_edge.expression import expression
from fer_edge.geometry import NO_MARGIN, Box, Face
from fer_edge.recognition import Recognition
from fer_edge.utils.image_input import check_channels, load_gray

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import FaceDetector
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge.utils.image_input import Channels, ImageLike


class Recognizer:
    """Finds the faces in images and scores their expressions; `fer_edge.load` creates one.

    An image is a path, or a uint8 array of shape (rows, columns) or (rows, columns, 3).

    Threads can share a recognizer. It processes one image at a time, and a lock makes the other threads wait, because
    the runtime has a single buffer for inputs and outputs. To process images in parallel, load a recognizer in each
    thread; each takes about 8 MB. Processes cannot share a recognizer: load it after the fork.

    Attributes:
        card: model card of the classifier, with its labels, input and accuracy.
    """

    def __init__(self, classifier: Classifier, detector: FaceDetector | None = None) -> None:
        """Create a recognizer from a loaded classifier and detector.

        Args:
            classifier: the classifier.
            detector: the face detector; None if every image is a face crop.

        Raises:
            InputError: an argument is something else, such as the name of a model.
        """
        if not hasattr(classifier, "classify") or (detector is not None and not hasattr(detector, "detect")):
            raise InputError("a recognizer consists of a classifier and a detector; fer_edge.load loads both by name")
        self.card: ClassifierCard = classifier.card
        self._classifier, self._detector = classifier, detector
        self._lock = Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the scores, in the order of the model."""
        return self.card.labels

    @property
    def model(self) -> str:
        """Name of the classifier, from its card."""
        return self.card.name

    def __repr__(self) -> str:
        """Return the names of the model, the detector and the labels."""
        detector = type(self._detector).__name__ if self._detector else None
        return f"<Recognizer {self.model}, detector {detector}, labels {', '.join(self.labels)}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: the runtime's memory cannot be."""
        raise InputError("a recognizer cannot be pickled or copied; load it in each process")

    # A string is an iterable of strings, too; type checkers use the first overload that fits.
    @overload
    def __call__(self, images: ImageLike, *, channels: Channels = "bgr") -> Recognition: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, images: Iterable[ImageLike], *, channels: Channels = "bgr") -> list[Recognition]: ...
    def __call__(
        self, images: ImageLike | Iterable[ImageLike], *, channels: Channels = "bgr"
    ) -> Recognition | list[Recognition]:
        """Call `recognize`."""
        return self.recognize(images, channels=channels)

    @overload
    def recognize(self, images: ImageLike, *, channels: Channels = "bgr") -> Recognition: ...  # type: ignore[overload-overlap]
    @overload
    def recognize(self, images: Iterable[ImageLike], *, channels: Channels = "bgr") -> list[Recognition]: ...
    def recognize(
        self, images: ImageLike | Iterable[ImageLike], *, channels: Channels = "bgr"
    ) -> Recognition | list[Recognition]:
        """Find the faces of one image or of several, and score their expressions.

        Args:
            images: one image; or a list or other iterable of images; or an array of shape (n, rows, columns, 3) or
                (n, rows, columns, 1), which type checkers regard as one image.
            channels: order of the channels of colour arrays: OpenCV uses BGR, Pillow and Matplotlib use RGB.

        Returns:
            The faces of the image, largest first. For several images, a list with the result of each.

        Raises:
            DataError: a file cannot be read or is not an image.
            InputError: an image is neither a path nor an array of the right type and shape.
        """
        check_channels(channels)
        if _is_single(images):
            return self._recognize(images, "image", channels)
        return [self._recognize(image, f"images[{i}]", channels) for i, image in enumerate(_parts(images))]

    def detect(self, image: ImageLike, *, channels: Channels = "bgr") -> list[Face]:
        """Find the faces of an image, without scoring them.

        Args:
            image: a path or an array.
            channels: order of the channels of a colour array.

        Returns:
            The faces, largest first.

        Raises:
            DataError: the file cannot be read or is not an image.
            InputError: the image is neither a path nor an array of the right type and shape, or the recognizer was
                loaded without a detector.
        """
        if self._detector is None:
            raise InputError("this recognizer was loaded without a detector; load it with detector='network'")
        gray = load_gray(image, channels=channels)
        with self._lock:
            return self._detector.detect(gray)

    def classify(
        self, crops: ImageLike | Iterable[ImageLike], *, channels: Channels = "bgr"
    ) -> npt.NDArray[np.float32]:
        """Score face crops. Each is resized to the input of the model.

        Args:
            crops: one crop, as a path or a uint8 array of shape (rows, columns) or (rows, columns, 3); a list of
                crops; or an array of shape (n, rows, columns), where n is not 3, (n, rows, columns, 1) or
                (n, rows, columns, 3).
            channels: order of the channels of colour arrays.

        Returns:
            float32 scores, each 0..1, in the order of `labels`: of shape (labels,) for one crop, otherwise
            (n, labels).

        Raises:
            DataError: a file cannot be read or is not an image.
            InputError: a crop is neither a path nor an array of the right type and shape.
        """
        check_channels(channels)
        spec = self.card.input
        if isinstance(crops, np.ndarray):
            _refuse_flat("crops", crops.shape, spec.height * spec.width)
            _refuse_ambiguous(crops.shape)
        single = _is_single(crops) and not _is_batch_of_crops(crops)
        faces = []
        for i, crop in enumerate([crops] if single else _parts(crops)):
            gray = load_gray(crop, "crop" if single else f"crops[{i}]", channels)
            faces.append(crop_whole_image(gray, spec.height, spec.width))
        batch = np.stack(faces) if faces else np.empty((0, spec.height, spec.width), np.uint8)
        with self._lock:
            scores = self._classifier.classify(batch)
        return scores[0] if single else scores

    def _recognize(self, image: object, name: str, channels: Channels) -> Recognition:
        if self._detector is None and isinstance(image, np.ndarray):
            _refuse_flat(name, image.shape, self.card.input.height * self.card.input.width)
        gray = load_gray(image, name, channels)
        with self._lock:
            if self._detector is None:
                rows, columns = gray.shape
                faces, crop_spec = [Face(Box(0, 0, columns, rows), 1.0)], NO_MARGIN
            else:
                faces, crop_spec = self._detector.detect(gray), self._detector.crop_spec
            classified = classify_faces(gray, faces, crop_spec, self._classifier)
        found = (
            expression(face.box, row, self.labels, quality)
            for face, row, quality in zip(faces, *classified, strict=True)
        )
        return Recognition(image, found, channels)


def _is_single(images: object) -> bool:
    """Return whether the argument is one image and not several."""
    if isinstance(images, np.ndarray):
        return images.ndim != 4
    # Tensors and data frames are iterable, too, but do not contain images.
    array_like = hasattr(images, "__array__") or hasattr(images, "__array_interface__")
    return (
        array_like
        or isinstance(images, str | bytes | bytearray | memoryview | os.PathLike)
        or not isinstance(images, Iterable)
    )


def _is_batch_of_crops(crops: object) -> bool:
    """Return whether the argument is an array of shape (n, rows, columns) and not one crop with channels."""
    return isinstance(crops, np.ndarray) and crops.ndim == 3 and crops.shape[-1] > 4


def _refuse_ambiguous(shape: tuple[int, ...]) -> None:
    """Raise InputError for an array that may be three grey crops or one colour crop with its channels first."""
    if len(shape) == 3 and shape[0] == 3 and shape[-1] > 4:
        raise InputError(
            f"crops: shape {shape} may be three grey crops, or one in colour with its channels first; give list(crops)"
            " for three crops, crop.transpose(1, 2, 0) for one"
        )


def _refuse_flat(name: str, shape: tuple[int, ...], pixels: int) -> None:
    """Raise InputError for flattened crops, one in each row, which would look like a single crop."""
    if (len(shape) == 2 or (len(shape) == 3 and shape[-1] in {1, 3})) and shape[1] == pixels != shape[0]:
        raise InputError(f"{name}: shape {shape} seems to hold flattened crops; reshape it to (n, rows, columns)")


def _parts(images: object) -> Iterator[object]:
    """Yield each image of several; `load_gray` rejects what is not an image."""
    yield from cast("Iterable[object]", images)
