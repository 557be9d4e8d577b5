"""From face crops to scores."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import numpy as np

from fer_edge.classification.crop import crop_face
from fer_edge.errors import ModelError, RuntimeMismatchError
from fer_edge.model_zoo import DEFAULT_MODEL
from fer_edge.modelcard.archive import (
    check_flatbuffer,
    model_bytes,
    read_card,
)
from fer_edge.modelcard.selftest import SelfTest
from fer_edge.tflite.interpreter import Tensor, invoke, make_interpreter, runtime_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.geometry import CropSpec, Face
    from fer_edge.modelcard.schema import ClassifierCard

# Sound kernels, of both runtimes, differ by up to 0.04 in a score of the test images.
_TOLERANCE: Final = 0.1


class Classifier(Protocol):
    """Anything that scores face crops."""

    @property
    def card(self) -> ClassifierCard:
        """What the model is and takes."""
        ...

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores of shape (n, labels), each 0..1, for uint8 grey faces of shape (n, height, width)."""
        ...


def classify_faces(
    gray: npt.NDArray[np.uint8], faces: Sequence[Face], crop_spec: CropSpec, classifier: Classifier
) -> npt.NDArray[np.float32]:
    """Score the faces of an image.

    Args:
        gray: uint8 image of shape (rows, columns).
        faces: those in it; there may be none.
        crop_spec: how their boxes become the squares that are cut out.
        classifier: what scores them.

    Returns:
        float32 scores of shape (faces, labels), each 0..1.
    """
    spec = classifier.card.input
    crops = [
        crop_face(gray, face.box, spec.height, spec.width, crop_spec, roll=face.roll if crop_spec.align_eyes else 0.0)
        for face in faces
    ]
    return classifier.classify(np.stack(crops) if crops else np.empty((0, spec.height, spec.width), np.uint8))


class _Network:
    """A flatbuffer that is loaded: from grey faces to the stored elements of its output."""

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
        self.input, self.output = Tensor.of(inputs[0]), Tensor.of(outputs[0])
        if self.input.shape != (batch, spec.height, spec.width, spec.channels):
            raise ModelError(f"{path}: takes {self.input.shape}, but its card says {spec}; convert the model again")
        if self.output.shape != (batch, len(card.labels)):
            raise ModelError(
                f"{path}: gives {self.output.shape}, but its card has {len(card.labels)} labels;"
                " convert the model again"
            )
        self._pixels = self.input.stored(spec.pixels)
        self._view_input = self._interpreter.tensor(self.input.index)
        self._view_output = self._interpreter.tensor(self.output.index)

    def run(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Stored elements, of shape (n, labels), for faces of shape (n, height, width)."""
        stored = np.empty((len(faces), self.output.shape[1]), np.float32)
        for start in range(0, len(faces), self._batch):
            some = faces[start : start + self._batch]  # of the last there may be fewer; what lies behind is ignored
            # Views of the runtime's memory must not outlive a line, or it refuses to run.
            self._view_input()[: len(some)] = self._pixels[some][..., None]
            invoke(self._interpreter)
            stored[start : start + len(some)] = self._view_output()[: len(some)]
        return stored


class TFLiteClassifier:
    """A ``.tflite`` model with a card, quantised or not.

    Attributes:
        card: what the model is and takes.
        path: the file.
        sha256: of the file, as hexadecimal digits.
    """

    def __init__(self, path: Path = DEFAULT_MODEL, threads: int = 1, *, xnnpack: bool = True, batch: int = 1) -> None:
        """Load a model.

        Args:
            path: the file.
            threads: how many threads an invocation may use.
            xnnpack: whether the XNNPACK delegate, where the runtime has it, takes what it can.
            batch: how many faces an invocation takes.

        Raises:
            MissingExtraError: no TFLite runtime is installed.
            ModelError: the file is missing, damaged, or not what its card says.
        """
        self.path = path
        self.card = read_card(path)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        flatbuffer = model_bytes(path)
        check_flatbuffer(path, self.card, flatbuffer)
        self._network = _Network(flatbuffer, self.card, path, threads, xnnpack=xnnpack, batch=batch)

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score faces.

        Args:
            faces: uint8 grey crops of shape (n, height, width), as the card says.

        Returns:
            float32 scores of shape (n, labels), each 0..1.
        """
        scores = self._network.run(faces)
        output = self._network.output
        return (scores - output.zero_point) * np.float32(output.scale) if output.scale else scores

    def self_test(self) -> float | None:
        """Whether this machine computes what the one did that wrote the card.

        Returns:
            The largest difference of a score from what the card says, 0..1; None where it says nothing.

        Raises:
            RuntimeMismatchError: it is larger than the card allows.
        """
        test, spec = self.card.self_test, self.card.input
        if test is None:
            return None
        apart = test.apart(self._network.run(test.images(spec.height, spec.width)))
        step = self._network.output.scale or 1.0
        if not apart <= test.tolerance:  # which not-a-number is not, either
            raise RuntimeMismatchError(
                f"{self.path}: {runtime_name()} gives scores here that are up to {apart * step:.2f} from those on its"
                f" card, where {test.tolerance * step:.2f} is allowed; install the runtime anew, or another version"
            )
        return apart * step


def with_self_test(flatbuffer: bytes, card: ClassifierCard, path: Path) -> ClassifierCard:
    """A card with what the model gives on this machine for known images.

    Args:
        flatbuffer: the model.
        card: what it is and takes.
        path: where it is or will be, for errors.

    Raises:
        ModelError: the model is damaged, or not what its card says.
    """
    network = _Network(flatbuffer, card, path)
    given = network.run(SelfTest.images(card.input.height, card.input.width))
    step = network.output.scale
    test = SelfTest.of(given, _TOLERANCE / (step or 1.0), quantised=bool(step))
    return msgspec.structs.replace(card, self_test=test)
