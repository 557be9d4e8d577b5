"""Soft labels: teachers' scores for each training face, computed once and kept in a file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.errors import DataError, InputError
from fer_edge.modelcard.reader import read_card
from fer_edge.modelcard.schema import ClassifierCard
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.npz_reader import read_npz
from fer_edge_train.teachers import Teachers, digest_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset


@dataclass(frozen=True, slots=True)
class SoftLabels:
    """Teachers' probabilities for the faces of a dataset.

    Attributes:
        labels: names of the classes.
        scores: float32 of shape (n, labels), rows add up to 1.
        faces: SHA-256 of the faces, as hexadecimal digits.
        digest: SHA-256 of the teachers' files.
    """

    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    faces: str
    digest: str

    def save(self, path: Path) -> None:
        """Write an ``.npz`` with 16 bits for each score."""
        scores = self.scores.astype(np.float16)
        labels, faces, digest = (np.array(value) for value in (self.labels, self.faces, self.digest))
        with replacing(path) as temporary:
            np.savez_compressed(temporary, labels=labels, scores=scores, faces=faces, digest=digest)


def soft_labels_for(
    data: Dataset, teachers: Sequence[Path], stored: Path | None, precision: str = "float32"
) -> SoftLabels:
    """Read soft labels from a file, if it exists; otherwise compute them and write the file.

    Args:
        data: the faces.
        teachers: files of the teachers.
        stored: the file of soft labels; None keeps none.
        precision: of the teachers' arithmetic.

    Raises:
        DataError: the file is for other faces or labels, or of other teachers.
        InputError: there is neither a file nor a teacher, or the file name does not end in ``.npz``.
        ModelError: a teacher cannot be read or does not have a label.
    """
    if stored and stored.suffix != ".npz":
        raise InputError(f"{stored}: soft labels are kept in an .npz file; choose a name that ends in .npz")
    if stored and stored.exists():
        found = load_soft_labels(stored, data)
        for path in teachers:
            read_card(path, ClassifierCard)  # raises an error if it is no model of ours
        if teachers and found.digest != digest_files(teachers):
            raise DataError(
                f"{stored}: soft labels of other teachers; leave --teacher out, or choose another file for these"
            )
        return found
    if not teachers:
        raise InputError(f"{stored}: no such file of soft labels; make it with --teacher MODEL.keras")
    found = compute_soft_labels(Teachers(teachers, data.labels, precision), data)
    if not stored:
        return found
    found.save(stored)
    return load_soft_labels(stored, data)  # with the rounding that a resumed run will read


def compute_soft_labels(teachers: Teachers, data: Dataset) -> SoftLabels:
    """Let teachers classify every face and its mirror image, and average the scores."""
    scores = np.zeros((len(data), len(data.labels)), np.float32)
    for start in range(0, len(data), 512):
        faces = data.faces[start : start + 512]
        scores[start : start + 512] = teachers.classify(faces, flip_average=True)
    return SoftLabels(data.labels, scores, data.digest(), teachers.digest)


def load_soft_labels(path: Path, data: Dataset) -> SoftLabels:
    """Read what `SoftLabels.save` wrote, for the same faces.

    Raises:
        DataError: the file cannot be read, or is for other faces or labels.
    """
    try:
        stored = read_npz(path)
        labels = tuple(str(label) for label in stored["labels"])
        scores = stored["scores"].astype(np.float32)
        found = SoftLabels(labels, scores, str(stored["faces"]), str(stored["digest"]))
    except (UnpackError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: damaged, or not a file of soft labels; make it again with --teacher") from error
    if found.labels != data.labels or found.faces != data.digest() or len(found.scores) != len(data):
        raise DataError(f"{path}: soft labels for other faces or labels; make them again with --teacher")
    return replace(found, scores=found.scores / found.scores.sum(axis=1, keepdims=True))
