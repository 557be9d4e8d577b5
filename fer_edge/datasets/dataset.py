"""Labelled face images.

The faces may lie in a memory-mapped file, so a dataset may be larger than memory.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.classification.labels import FERPLUS_COLUMNS, canonical_label, propose_label_map
from fer_edge.datasets.face_store import CHUNK, join_faces
from fer_edge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

TRAINING: Final = "Training"
VALIDATION: Final = "validation"
USAGES: Final = {
    **dict.fromkeys(("train", "training", "fer2013train"), TRAINING),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "dev"), VALIDATION),
    **dict.fromkeys(("publictest", "fer2013valid"), "PublicTest"),
    **dict.fromkeys(("privatetest", "fer2013test"), "PrivateTest"),
}
"""The common names of a dataset's parts, in lower case, and the usage that each stands for."""


def canonical_usage(name: str) -> str:
    """Return the common spelling of a usage, such as ``Training`` for ``train``."""
    return USAGES.get(name.strip().lower(), name.strip())


@dataclass(frozen=True, slots=True)
class Dataset:
    """Face images with their labels.

    Attributes:
        name: file or folder of the dataset.
        labels: names of the classes.
        faces: uint8 grey images of shape (n, side, side), possibly memory-mapped.
        classes: index into ``labels`` for each face, int64 of shape (n,).
        usages: usage of each face (``Training``, ``PublicTest``, ``test``, ...), str of shape (n,).
        skipped: one line for each image that could not be read.
        votes: number of annotators who chose each of ``vote_labels``, float32 of shape (n, vote_labels); a row of zeros
            for a face without votes; None if no face has votes.
        vote_labels: choices of the annotators.
        left_out: one line for each reason why faces were left out, with their number.
        columns: more that is known of each face, by name, str of shape (n,) each.
    """

    name: str
    labels: tuple[str, ...]
    faces: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    usages: npt.NDArray[np.str_]
    skipped: tuple[str, ...] = ()
    votes: npt.NDArray[np.float32] | None = None
    vote_labels: tuple[str, ...] = FERPLUS_COLUMNS
    left_out: tuple[str, ...] = ()
    columns: Mapping[str, npt.NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that the arrays have the same length."""
        if not len(self.faces) == len(self.classes) == len(self.usages):
            message = f"lengths differ: {len(self.faces)}, {len(self.classes)}, {len(self.usages)}"
            raise ValueError(message)

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.faces)

    def select(self, mask: npt.NDArray[np.bool_], reason: str = "") -> Dataset:
        """Keep some of the faces.

        Args:
            mask: whether to keep each face, bool of shape (n,).
            reason: what the other faces are, for ``left_out``; empty to record nothing.
        """
        if mask.all():
            return self
        lines = (f"{(~mask).sum()} {reason}",) if reason else ()
        rows = np.flatnonzero(mask)
        return replace(
            self,
            faces=join_faces([(self.faces, rows)]),
            classes=self.classes[rows],
            usages=self.usages[rows],
            votes=None if self.votes is None else self.votes[rows],
            columns={name: values[rows] for name, values in self.columns.items()},
            left_out=self.left_out + lines,
        )

    def select_usage(self, name: str | None = None) -> Dataset:
        """Keep the faces of one usage; see `has_usage`."""
        return self.select(self.has_usage(name))

    def has_usage(self, name: str | None = None) -> npt.NDArray[np.bool_]:
        """Return whether each face is of one usage.

        Args:
            name: the usage; None for the faces to test on. These are all faces that are neither for training nor for
                validation; the validation faces if there are no others; and all faces if there is only one usage.

        Raises:
            DataError: there is no face of this usage.
        """
        present = sorted(set(self.usages.tolist()))
        if name is None:
            if len(present) == 1:
                return np.ones(len(self), bool)
            others: npt.NDArray[np.bool_] = self.usages != TRAINING
            tested = others & (self.usages != VALIDATION)
            return tested if tested.any() else others
        wanted = canonical_usage(name)
        if wanted not in present:
            raise DataError(f"{self.name}: no rows of usage {name}; it has {', '.join(present)}")
        found: npt.NDArray[np.bool_] = self.usages == wanted
        return found

    def with_labels(self, labels: tuple[str, ...]) -> Dataset:
        """Renumber the classes by other labels, and leave out the faces with none of them."""
        if labels == self.labels:
            return self
        classes = _index_of(self.labels, labels)[self.classes]
        known = set(map(canonical_label, labels))
        missing = ", ".join(label for label in self.labels if canonical_label(label) not in known)
        return replace(self, labels=labels, classes=np.maximum(classes, 0)).select(classes >= 0, f"of labels {missing}")

    def classes_for(self, labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """Return each face's class as an index into a model's labels, in whatever spelling.

        Raises:
            DataError: a face has a label that the model does not have.
        """
        known = set(map(canonical_label, labels))
        unknown = [self.labels[i] for i in np.unique(self.classes) if canonical_label(self.labels[i]) not in known]
        if unknown:
            raise DataError(
                f"{self.name}: the model does not know {', '.join(unknown)}; it knows {', '.join(labels)}: leave those"
                f" faces out, or rename them, with --map map.toml, a file that holds"
                f" {propose_label_map(unknown, labels)}"
            )
        return _index_of(self.labels, labels)[self.classes]

    def votes_for(self, labels: tuple[str, ...]) -> npt.NDArray[np.float32] | None:
        """Return the votes for each of some labels, float32 of shape (n, labels), without the votes for others."""
        if self.votes is None:
            return None
        chosen = np.zeros((len(self), len(labels)), np.float32)
        voted = [canonical_label(label) for label in self.vote_labels]
        for i, label in enumerate(labels):
            if canonical_label(label) in voted:
                chosen[:, i] = self.votes[:, voted.index(canonical_label(label))]
        return chosen

    def digest(self) -> str:
        """Return the SHA-256 hash of the faces in their order, as hexadecimal digits."""
        digest = hashlib.sha256()
        for begin in range(0, len(self), CHUNK):
            digest.update(self.faces[begin : begin + CHUNK].tobytes())
        return digest.hexdigest()


def fuse(datasets: Sequence[Dataset]) -> Dataset:
    """Join several datasets; the labels of the result are in the order of their first occurrence.

    Raises:
        DataError: the datasets have images of different sizes.
    """
    first, *others = datasets
    if not others:
        return first
    labels = tuple(dict.fromkeys(label for dataset in datasets for label in dataset.labels))
    numbered = [dataset.with_labels(labels) for dataset in datasets]
    voted = [dataset for dataset in datasets if dataset.votes is not None]
    vote_labels = tuple(dict.fromkeys(label for dataset in voted for label in dataset.vote_labels))
    votes = [dataset.votes_for(vote_labels) for dataset in datasets]
    zeros = [np.zeros((len(dataset), len(vote_labels)), np.float32) for dataset in datasets]
    return Dataset(
        name=" + ".join(dataset.name for dataset in datasets),
        labels=labels,
        faces=join_faces([(dataset.faces, np.arange(len(dataset))) for dataset in numbered]),
        classes=np.concatenate([dataset.classes for dataset in numbered]),
        usages=np.concatenate([dataset.usages for dataset in numbered]),
        skipped=tuple(line for dataset in datasets for line in dataset.skipped),
        votes=np.concatenate([z if v is None else v for v, z in zip(votes, zeros, strict=True)]) if voted else None,
        vote_labels=vote_labels if voted else FERPLUS_COLUMNS,
        left_out=tuple(line for dataset in datasets for line in dataset.left_out),
        columns={
            name: np.concatenate([dataset.columns[name] for dataset in numbered])
            for name in first.columns
            if all(name in dataset.columns for dataset in others)
        },
    )


def _index_of(names: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the index of each name among labels, in whatever spelling, -1 if it is not among them."""
    spelled = [canonical_label(label) for label in labels]
    return np.array(
        [spelled.index(canonical_label(name)) if canonical_label(name) in spelled else -1 for name in names], np.int64
    )
