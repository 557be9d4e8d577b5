"""Scoring the expressions of face crops."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from fer_edge.classification.crop import crop_detected_face
from fer_edge.errors import ModelError, RuntimeMismatchError
from fer_edge.model_zoo import DEFAULT_MODEL, find_model
from fer_edge.modelcard.archive import check_flatbuffer, model_bytes, read_model
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.quality import FaceQuality, measure_quality
from fer_edge.tflite.interpreter import Tensor, invoke, make_interpreter, runtime_name
from fer_edge.utils.array_checks import check_crops

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.geometry import CropSpec, Face

# Correct kernels of both runtimes differ by up to 0.04 in the scores of the test images.
_TOLERANCE: Final = 0.1


class Classifier(Protocol):
    """A classifier of facial expressions."""

    @property
    def card(self) -> ClassifierCard:
        """Description of the model and its input."""
        ...

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return scores of shape (n, labels), each 0..1, for uint8 grey faces of shape (n, height, width)."""
        ...


class ClassifiedFaces(NamedTuple):
    """The scores and the quality of some faces of an image.

    Attributes:
        scores: float32 of shape (faces, labels), each 0..1.
        qualities: how well each face can be seen.
    """

    scores: npt.NDArray[np.float32]
    qualities: tuple[FaceQuality, ...]


def classify_faces(
    gray: npt.NDArray[np.uint8], faces: Sequence[Face], crop_spec: CropSpec, classifier: Classifier
) -> ClassifiedFaces:
    """Score the faces of an image, and measure their quality.

    Args:
        gray: uint8 image of shape (rows, columns).
        faces: the faces in it; the sequence may be empty.
        crop_spec: how their boxes become square crops.
        classifier: the classifier.
    """
    spec = classifier.card.input
    crops = [crop_detected_face(gray, face, spec.height, spec.width, crop_spec) for face in faces]
    scores = classifier.classify(np.stack(crops) if crops else np.empty((0, spec.height, spec.width), np.uint8))
    return ClassifiedFaces(scores, tuple(map(measure_quality, faces, crops)))


class TFLiteClassifier:
    """A classifier in a ``.tflite`` file with a card, quantized or not.

    One object must not be used by two threads at a time.

    Attributes:
        card: description of the model and its input.
        path: the file.
        sha256: hash of the file, as hexadecimal digits.
    """

    def __init__(
        self, model: str | Path = DEFAULT_MODEL, threads: int = 1, *, xnnpack: bool = True, batch: int = 1
    ) -> None:
        """Load a model.

        Args:
            model: a file, or the name of a shipped model, such as ``edge``.
            threads: number of threads that the runtime may use.
            xnnpack: whether to use the XNNPACK delegate if the runtime has it.
            batch: number of faces that the model processes at a time.

        Raises:
            MissingExtraError: no TFLite runtime is installed.
            ModelError: the file is missing or damaged, or does not match its card.
        """
        self.path = find_model(model)
        self.card = read_card(self.path, ClassifierCard)
        self.sha256 = hashlib.sha256(read_model(self.path)).hexdigest()
        flatbuffer = model_bytes(self.path)
        check_flatbuffer(self.path, self.card, flatbuffer)
        self._crop_size = (self.card.input.height, self.card.input.width)
        self._network = _Network(flatbuffer, self.card, self.path, threads, xnnpack=xnnpack, batch=batch)

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score faces.

        Args:
            faces: uint8 grey crops of shape (n, height, width), with the height and width on the card; n may be 0.

        Returns:
            float32 scores of shape (n, labels), each 0..1.

        Raises:
            InputError: the array has another type or shape.
        """
        check_crops(faces, self._crop_size)
        scores = self._network.run(faces)
        output = self._network.output
        return (scores - output.zero_point) * np.float32(output.scale) if output.scale else scores

    def self_test(self) -> float | None:
        """Compare this machine's outputs with those recorded on the card.

        Returns:
            The largest difference of a score, 0..1; None if the card has no self-test.

        Raises:
            RuntimeMismatchError: the difference is larger than the card allows.
        """
        test, spec = self.card.self_test, self.card.input
        if test is None:
            return None
        difference = test.max_difference(self._network.run(test.images(spec.height, spec.width)))
        step = self._network.output.scale or 1.0
        if not difference <= test.tolerance:  # written this way so that not-a-number fails, too
            raise RuntimeMismatchError(
                f"{self.path}: the scores of {runtime_name()} on this machine differ by up to {difference * step:.2f}"
                f" from those on the card, where {test.tolerance * step:.2f} is allowed; reinstall the runtime,"
                " or install another version"
            )
        return difference * step


def with_self_test(flatbuffer: bytes, card: ClassifierCard, path: Path) -> ClassifierCard:
    """Run a model on the test images and return its card with the outputs recorded.

    Args:
        flatbuffer: the model.
        card: its card.
        path: its file, existing or not, for errors.

    Raises:
        ModelError: the model is damaged or does not match its card.
    """
    network = _Network(flatbuffer, card, path)
    outputs = network.run(SelfTest.images(card.input.height, card.input.width))
    step = network.output.scale
    test = SelfTest.from_outputs(outputs, _TOLERANCE / (step or 1.0), quantized=bool(step))
    return msgspec.structs.replace(card, self_test=test)


class _Network:
    """A loaded flatbuffer that converts grey faces to the stored elements of its output."""

    def __init__(
        self,
        flatbuffer: bytes,
        card: ClassifierCard,
        path: Path,
        threads: int = 1,
        *,
        xnnpack: bool = True,
        batch: int = 1,
    ) -> None:
        spec = card.input
        shape = (batch, spec.height, spec.width, spec.channels) if batch > 1 else None
        self._interpreter = make_interpreter(flatbuffer, path, threads, xnnpack=xnnpack, input_shape=shape)
        self._batch = batch
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one each")
        self.input, self.output = Tensor.from_detail(inputs[0]), Tensor.from_detail(outputs[0])
        if self.input.shape != (batch, spec.height, spec.width, spec.channels):
            raise ModelError(f"{path}: takes {self.input.shape}, but its card says {spec}; convert the model again")
        if self.output.shape != (batch, len(card.labels)):
            raise ModelError(
                f"{path}: gives {self.output.shape}, but its card has {len(card.labels)} labels;"
                " convert the model again"
            )
        self._spec = spec
        self._element_of_pixel = self.input.quantize(spec.pixels)
        self._view_input = self._interpreter.tensor(self.input.index)
        self._view_output = self._interpreter.tensor(self.output.index)

    def run(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return the stored output elements, of shape (n, labels), for faces of shape (n, height, width)."""
        outputs = np.empty((len(faces), self.output.shape[1]), np.float32)
        for start in range(0, len(faces), self._batch):
            chunk = faces[start : start + self._batch]  # the last one may be shorter; the rest of the input is ignored
            # A view of the runtime's memory must not outlive its statement, or the runtime refuses to run.
            self._view_input()[: len(chunk)] = self._elements(chunk)[..., None]
            invoke(self._interpreter)
            outputs[start : start + len(chunk)] = self._view_output()[: len(chunk)]
        return outputs

    def _elements(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
        """Return the stored element of each pixel, of the shape of the faces."""
        if not self._spec.per_image:
            return self._element_of_pixel[faces]
        elements = self.input.quantize(self._spec.pixels_of_each(faces))
        return elements[np.arange(len(faces))[:, None, None], faces]
