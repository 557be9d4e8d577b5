"""From face crops to scores."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
import numpy as np

from fer_edge.card import Card, InputSpec, attached_labels, check_flatbuffer, model_bytes, read_card, with_card
from fer_edge.crop import crop_face
from fer_edge.errors import InputError, ModelError, printable
from fer_edge.files import replacing
from fer_edge.runtime import Tensor, make_interpreter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.crop import Box, Framing

_SHIPPED: Final = Path(__file__).parent / "models"
DEFAULT_MODEL: Final = _SHIPPED / "edge.tflite"
_SLACK: Final = 0.02  # what rounding may add to a score


def find_model(name: Path) -> Path:
    """The path of a model that comes with the package when ``name`` is its bare name (``edge``), else ``name``."""
    shipped = _SHIPPED / f"{name}.tflite"
    return shipped if name.parent == Path() and not name.exists() and shipped.exists() else name


class Classifier(Protocol):
    """Anything that scores face crops."""

    @property
    def card(self) -> Card:
        """What the model is and takes."""
        ...

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Scores of shape (n, labels), each 0..1, for uint8 grey faces of shape (n, height, width)."""
        ...


def classify_boxes(
    gray: npt.NDArray[np.uint8], boxes: Sequence[Box], framing: Framing, classifier: Classifier
) -> npt.NDArray[np.float32]:
    """Score the faces of a picture.

    Args:
        gray: uint8 picture of shape (rows, columns).
        boxes: where its faces are; there may be none.
        framing: how the boxes become the squares that are cut out.
        classifier: what scores them.

    Returns:
        float32 scores of shape (boxes, labels), each 0..1.
    """
    spec = classifier.card.input
    crops = [crop_face(gray, box, spec.height, spec.width, framing) for box in boxes]
    return classifier.classify(np.stack(crops) if crops else np.empty((0, spec.height, spec.width), np.uint8))


class TFLiteClassifier:
    """A ``.tflite`` model with a card, quantised or not.

    Attributes:
        card: what the model is and takes.
        path: the file.
        sha256: of the file, as hexadecimal digits.
    """

    def __init__(self, path: Path = DEFAULT_MODEL, threads: int = 1) -> None:
        """Load a model.

        Args:
            path: the file.
            threads: how many threads an invocation may use.

        Raises:
            MissingExtraError: no TFLite runtime is installed.
            ModelError: the file is missing, damaged, or not what its card says.
        """
        self.path = path
        self.card = read_card(path)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        flatbuffer = model_bytes(path)
        check_flatbuffer(path, self.card, flatbuffer)
        self._interpreter = make_interpreter(flatbuffer, path, threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise ModelError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one each")
        self.input, self.output = Tensor.of(inputs[0]), Tensor.of(outputs[0])
        spec = self.card.input
        if self.input.shape != (1, spec.height, spec.width, spec.channels):
            raise ModelError(f"{path}: takes {self.input.shape}, but its card says {spec}; convert the model again")
        if self.output.shape != (1, len(self.card.labels)):
            raise ModelError(
                f"{path}: gives {self.output.shape}, but its card has {len(self.card.labels)} labels;"
                " convert the model again"
            )
        self._pixels = self._pixel_table()
        self._view_input = self._interpreter.tensor(self.input.index)
        self._view_output = self._interpreter.tensor(self.output.index)

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Score faces.

        Args:
            faces: uint8 grey crops of shape (n, height, width), as the card says.

        Returns:
            float32 scores of shape (n, labels), each 0..1.
        """
        scores = np.empty((len(faces), len(self.card.labels)), np.float32)
        for i, face in enumerate(faces):
            # Views of the runtime's memory must not outlive a line, or it refuses to run.
            self._view_input()[0] = self._pixels[face][..., None]
            self._interpreter.invoke()
            scores[i] = self._view_output()[0]
        if self.output.scale:
            scores = (scores - self.output.zero_point) * np.float32(self.output.scale)
        return scores

    def _pixel_table(self) -> npt.NDArray[np.generic]:
        """What each of the 256 pixel values is as an element of the input."""
        real = np.arange(256, dtype=np.float32) * np.float32(self.card.input.scale) + np.float32(self.card.input.offset)
        if not self.input.scale:
            return real.astype(self.input.dtype)
        info = np.iinfo(np.dtype(self.input.dtype))
        steps = np.rint(real / np.float32(self.input.scale)) + self.input.zero_point
        return np.asarray(steps.clip(info.min, info.max), self.input.dtype)


def set_card(path: Path, labels: tuple[str, ...], scale_offset: tuple[float, float] | None) -> Card:
    """Give a ``.tflite`` of somebody else's a card, or change what its own says; its flatbuffer stays as it is.

    Args:
        path: the file, which is replaced whole or not at all.
        labels: names of its outputs; empty takes those that it has.
        scale_offset: from a pixel, 0..255, to its real-valued input; None takes what it says.

    Raises:
        ModelError: it is missing, damaged or no picture classifier.
        InputError: something is neither given nor in the file, or does not fit it.
    """
    try:
        old = read_card(path)
    except ModelError:
        if not path.is_file():
            raise
        old = None
    flatbuffer = model_bytes(path)
    if old:
        check_flatbuffer(path, old, flatbuffer)
    interpreter = make_interpreter(flatbuffer, path)
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    taken, given = tuple(map(int, inputs[0]["shape"])), tuple(map(int, outputs[0]["shape"]))
    if (len(inputs), len(outputs), len(taken), len(given)) != (1, 1, 4, 2) or taken[3] not in {1, 3}:
        raise ModelError(
            f"{path}: it takes {list(taken)} and gives {list(given)}; a classifier takes one picture,"
            " [1, height, width, 1 or 3], and gives [1, labels]"
        )
    labels = labels or (old.labels if old else attached_labels(path))
    if len(labels) != given[1]:
        have = f"there are {len(labels)} labels ({', '.join(labels)})" if labels else "no labels are known"
        raise InputError(f"{path}: it has {given[1]} outputs, but {have}: give --labels, in their order")
    if len(set(labels)) != len(labels):
        raise InputError(f"{path}: a label twice in {', '.join(labels)}; each output needs a name of its own")
    if scale_offset is None:
        if old is None:
            raise InputError(
                f"{path}: it does not say which values its pixels had in training: give --input-range 0..1, -1..1 or"
                " 0..255"
            )
        scale_offset = old.input.scale, old.input.offset
    spec = InputSpec(
        height=taken[1],
        width=taken[2],
        channels=3 if taken[3] == 3 else 1,
        scale=scale_offset[0],
        offset=scale_offset[1],
    )
    sha256 = hashlib.sha256(flatbuffer).hexdigest()
    base = old or Card(name=printable(path.stem), labels=labels, input=spec)
    card = msgspec.structs.replace(base, labels=labels, input=spec, flatbuffer_sha256=sha256)
    with replacing(path) as temporary:
        temporary.write_bytes(with_card(flatbuffer, card))
        # Fixed pictures, for the question must have one answer.
        noise = np.random.default_rng(0).integers(0, 256, (8, taken[1], taken[2]), np.uint8)
        scores = TFLiteClassifier(temporary).classify(noise)
        if not (scores.min() > -_SLACK and scores.max() < 1 + _SLACK):
            raise ModelError(
                f"{path}: its outputs are no scores of 0..1 but reach from {scores.min():.2g} to {scores.max():.2g}, as"
                " logits do; convert the float model that it was made of, which gives it a softmax"
            )
    return card
