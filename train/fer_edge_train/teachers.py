"""What other models answer for the training faces: the soft labels of distillation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import keras
import numpy as np
from keras import layers, ops

from fer_edge.errors import DAMAGED_ZIP, DataError, InputError, ModelError, first_line
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.network import copied, every_layer, load_trained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import InputSpec


Answer = Callable[["npt.NDArray[np.float32]"], Any]  # of whichever backend
Asked = tuple[keras.Model, "InputSpec", list[int]]


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """Teachers' probabilities for the faces of a dataset.

    Attributes:
        labels: names of the classes.
        scores: float32 of shape (n, labels), rows add up to 1.
        faces: SHA-256 of the faces they are for, as hexadecimal digits.
        digest: SHA-256 of the teachers' files.
    """

    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    faces: str
    digest: str

    def save(self, path: Path) -> None:
        """Write them to an ``.npz``, in 16 bits a score."""
        scores = self.scores.astype(np.float16)
        labels, faces, digest = (np.array(value) for value in (self.labels, self.faces, self.digest))
        with replacing(path) as temporary:
            np.savez_compressed(temporary, labels=labels, scores=scores, faces=faces, digest=digest)


class Teachers:
    """Models whose answers are averaged.

    Attributes:
        labels: names of the classes, in the order of the answers.
        digest: SHA-256 of the files, as hexadecimal digits.
    """

    def __init__(self, paths: Sequence[Path], labels: tuple[str, ...], precision: str = "float32") -> None:
        """Load ``.keras`` models with cards, each of which knows every one of ``labels``.

        Args:
            paths: of the models.
            labels: names of the classes.
            precision: of their arithmetic, as Keras names it.

        Raises:
            ModelError: a teacher cannot be read or does not know a label.
        """
        self.labels = labels
        self._models: list[Asked] = []
        self._answers: dict[tuple[object, ...], Answer] = {}
        self._one = Lock()
        for number, path in enumerate(paths):
            card = read_card(path, ClassifierCard)
            if missing := [label for label in labels if label not in card.labels]:
                known = ", ".join(card.labels)
                raise ModelError(f"{path}: this teacher does not know {', '.join(missing)}; it knows {known}")
            model = _in_precision(load_trained(path), precision)
            model.name = f"teacher-{number}"  # all of them become parts of one model, and Keras names models by number
            self._models.append((model, card.input, [card.labels.index(label) for label in labels]))
        self.digest = _digest(paths)

    def __len__(self) -> int:
        """How many they are."""
        return len(self._models)

    def answer(
        self, faces: npt.NDArray[np.uint8], only: int | None = None, *, mirrored: bool = False
    ) -> npt.NDArray[np.float32]:
        """Mean probabilities of shape (n, labels); may be asked from several threads.

        Args:
            faces: uint8 of shape (n, height, width), of any size.
            only: number of the one to ask; None asks all.
            mirrored: whether their mirror images are asked about, too.
        """
        if mirrored:
            return np.asarray((self.answer(faces, only) + self.answer(faces[:, :, ::-1], only)) / 2, np.float32)
        shape = faces.shape[1:]
        with self._one:  # Keras's own state is no place for two; what JAX has begun here ends below
            if (shape, only) not in self._answers:
                asked = self._models if only is None else self._models[only : only + 1]
                self._answers[shape, only] = _compiled(_mean(asked, shape))
            answer = self._answers[shape, only](faces[..., None].astype(np.float32))
        return np.asarray(answer, np.float32)


def _digest(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _in_precision(model: keras.Model, precision: str) -> keras.Model:
    """The same model in a precision, but for its scores; models within it stay as they are."""
    if precision == "float32":
        return model
    first = next((i for i, layer in enumerate(model.layers) if isinstance(layer, layers.Dense)), -1)
    exact = {layer.name for layer in every_layer(model)} - {layer.name for layer in model.layers[:first]}
    return copied(model, precision, but=exact)


def _mean(models: Sequence[Asked], shape: tuple[int, ...]) -> keras.Model:
    """One model from images, 0..255, of shape (n, height, width, 1) to the mean of all answers."""
    images = keras.Input((*shape, 1))
    answers = []
    for model, spec, columns in models:
        view = images
        if shape != (spec.height, spec.width):
            view = layers.Resizing(spec.height, spec.width, dtype="float32")(view)
        said = model(layers.Rescaling(spec.scale, spec.offset, dtype="float32")(view))
        scores = ops.cast(ops.take(said, columns, axis=1), "float32")
        answers.append(scores / ops.sum(scores, axis=1, keepdims=True))
    return keras.Model(images, layers.Average(dtype="float32")(answers) if len(answers) > 1 else answers[0])


def _compiled(model: keras.Model) -> Answer:
    """What calls a model, whose weights stay as they are."""
    if keras.backend.backend() != "jax":
        return cast("Answer", model.predict_on_batch)
    import jax  # noqa: PLC0415 - the backend that is in use

    weights = [[each.value for each in part] for part in (model.trainable_variables, model.non_trainable_variables)]
    call = jax.jit(lambda learnt, fixed, x: model.stateless_call(learnt, fixed, x, training=False)[0])
    return lambda x: call(*weights, x)


def ask(teachers: Teachers, data: Dataset) -> SoftLabels:
    """Have teachers classify every face and its mirror image; the answers are averaged."""
    scores = np.zeros((len(data), len(data.labels)), np.float32)
    for begin in range(0, len(data), 512):
        faces = data.faces[begin : begin + 512]
        scores[begin : begin + 512] = teachers.answer(faces, mirrored=True)
    return SoftLabels(data.labels, scores, data.digest(), teachers.digest)


def soft_labels_for(
    data: Dataset, teachers: Sequence[Path], stored: Path | None, precision: str = "float32"
) -> SoftLabels:
    """Soft labels from a file, if it is there, else from teachers, as `Teachers` has them, and into that file.

    Raises:
        DataError: the file is for other faces or labels, or of other teachers.
        InputError: there is neither a file nor a teacher, or the file does not end in ``.npz``.
        ModelError: a teacher cannot be read or does not know a label.
    """
    if stored and stored.suffix != ".npz":
        raise InputError(f"{stored}: soft labels are kept in a file that ends in .npz; choose such a name")
    if stored and stored.exists():
        found = load_soft_labels(stored, data)
        for path in teachers:
            read_card(path, ClassifierCard)  # says what is wrong with it
        if teachers and found.digest != _digest(teachers):
            raise DataError(
                f"{stored}: what other teachers said; leave --teacher out, or choose another file for these"
            )
        return found
    if not teachers:
        raise InputError(f"{stored}: no such file of soft labels; make it with --teacher MODEL.keras")
    found = ask(Teachers(teachers, data.labels, precision), data)
    if not stored:
        return found
    found.save(stored)
    return load_soft_labels(stored, data)  # as a resumed run will read them


def load_soft_labels(path: Path, data: Dataset) -> SoftLabels:
    """Read what `SoftLabels.save` wrote, for the same faces.

    Raises:
        DataError: it cannot be read, or is for other faces or labels.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            labels = tuple(str(label) for label in stored["labels"])
            scores = stored["scores"].astype(np.float32)
            found = SoftLabels(labels, scores, str(stored["faces"]), str(stored["digest"]))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (*DAMAGED_ZIP, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a file of soft labels ({first_line(error)}); make it with --teacher") from error
    if found.labels != data.labels or found.faces != data.digest() or len(found.scores) != len(data):
        raise DataError(f"{path}: soft labels for other faces or labels; make them again with --teacher")
    return replace(found, scores=found.scores / found.scores.sum(axis=1, keepdims=True))
