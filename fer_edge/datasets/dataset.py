"""Labelled face images, what can be done with them, and the labels of FER+.

The faces may lie in a memory-mapped file: what is indexed is read, and the system may drop it again, so a dataset
may be larger than memory.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from fer_edge.classification.labels import FERPLUS, FERPLUS_COLUMNS
from fer_edge.errors import DataError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
_CHUNK: Final = 4096  # faces that are copied or hashed at a time


def usage_name(name: str) -> str:
    """One spelling for a part's name."""
    return USAGES.get(name.strip().lower(), name.strip())


@dataclass(frozen=True, slots=True)
class Dataset:
    """Face images with their labels.

    Attributes:
        name: where it was read from.
        labels: names of the classes.
        faces: uint8 grey images of shape (n, side, side), maybe memory-mapped.
        classes: index into ``labels`` of each face, int64 of shape (n,).
        usages: the part each face belongs to (``Training``, ``PublicTest``, ``test``, ...), str of shape (n,).
        skipped: one line for each image that could not be read.
        votes: how many annotators chose each of ``vote_labels``, float32 of shape (n, vote_labels), rows of zeros
            where nobody was asked; None where there are none at all.
        vote_labels: what annotators could choose.
        left_out: one line for each reason why faces were left out, with their number.
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

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        if not len(self.faces) == len(self.classes) == len(self.usages):
            message = f"lengths differ: {len(self.faces)}, {len(self.classes)}, {len(self.usages)}"
            raise ValueError(message)

    def __len__(self) -> int:
        """How many faces there are."""
        return len(self.faces)

    def part(self, chosen: npt.NDArray[np.bool_], why: str = "") -> Dataset:
        """The faces where ``chosen``, bool of shape (n,), is true; ``why`` says what the others are, for the record."""
        if chosen.all():
            return self
        lines = (f"{(~chosen).sum()} {why}",) if why else ()
        rows = np.flatnonzero(chosen)
        return replace(
            self,
            faces=_join([(self.faces, rows)]),
            classes=self.classes[rows],
            usages=self.usages[rows],
            votes=None if self.votes is None else self.votes[rows],
            left_out=self.left_out + lines,
        )

    def with_labels(self, labels: tuple[str, ...]) -> Dataset:
        """The same faces with classes numbered as in ``labels``; faces of other labels are left out."""
        if labels == self.labels:
            return self
        table = np.array([labels.index(label) if label in labels else -1 for label in self.labels], np.int64)
        classes = table[self.classes]
        gone = ", ".join(label for label in self.labels if label not in labels)
        return replace(self, labels=labels, classes=np.maximum(classes, 0)).part(classes >= 0, f"of labels {gone}")

    def votes_for(self, labels: tuple[str, ...]) -> npt.NDArray[np.float32] | None:
        """Votes for each of ``labels``, float32 of shape (n, labels); votes for anything else are left out."""
        if self.votes is None:
            return None
        chosen = np.zeros((len(self), len(labels)), np.float32)
        for i, label in enumerate(labels):
            if label in self.vote_labels:
                chosen[:, i] = self.votes[:, self.vote_labels.index(label)]
        return chosen

    def digest(self) -> str:
        """SHA-256 of the faces in their order, as hexadecimal digits."""
        digest = hashlib.sha256()
        for begin in range(0, len(self), _CHUNK):
            digest.update(self.faces[begin : begin + _CHUNK].tobytes())
        return digest.hexdigest()

    def usage(self, name: str | None = None) -> Dataset:
        """The faces of one usage; without a name, those to test on.

        Those to test on are all that are neither for training nor, where there are others, for validation; where
        there is but one usage, all.

        Raises:
            DataError: there is no such usage.
        """
        present = sorted(set(self.usages.tolist()))
        if name is None:
            if len(present) == 1:
                return self
            others = self.usages != TRAINING
            tested = others & (self.usages != VALIDATION)
            return self.part(tested if tested.any() else others)
        wanted = usage_name(name)
        if wanted not in present:
            raise DataError(f"{self.name}: no rows of usage {name}; it has {', '.join(present)}")
        return self.part(self.usages == wanted)

    def classes_for(self, labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """The faces' classes as indices into a model's labels.

        Raises:
            DataError: a face has a label that the model does not know.
        """
        used = np.unique(self.classes)
        unknown = [self.labels[i] for i in used if self.labels[i] not in labels]
        if unknown:
            raise DataError(
                f"{self.name}: the model does not know {', '.join(unknown)}; it knows {', '.join(labels)}:"
                " give data with those labels"
            )
        table = np.array([labels.index(label) if label in labels else -1 for label in self.labels])
        return table[self.classes]


def by_majority(dataset: Dataset) -> Dataset:
    """FER+'s eight classes: each face's is the one that more than half of its annotators chose.

    The protocol of Barsoum et al. 2016 (arXiv:1608.01041): a vote that nobody shares is dropped as an outlier; faces
    without a majority, or whose majority saw an unknown expression or no face, are left out.  Faces that nobody was
    asked about, of other datasets, keep their class, also one that FER+ has not.

    Raises:
        DataError: there are no votes.
    """
    if dataset.votes is None:
        raise DataError(f"{dataset.name}: FER+'s classes need its votes; give --votes fer2013new.csv")
    asked = dataset.votes.sum(axis=1) > 0
    own = {dataset.labels[i] for i in np.unique(dataset.classes[~asked])}
    labels = (*FERPLUS, *(label for label in dataset.labels if label in own and label not in FERPLUS))
    table = np.array([labels.index(label) if label in labels else -1 for label in dataset.labels])
    shared = np.where(dataset.votes > 1, dataset.votes, 0)
    leader = shared.argmax(axis=1)
    clear = (shared.max(axis=1) > shared.sum(axis=1) / 2) & (leader < len(FERPLUS))
    classes = np.where(asked, leader, table[dataset.classes])
    kept = ~asked | clear
    found = replace(dataset, labels=labels, classes=np.where(kept, classes, 0))
    return found.part(kept, "on which FER+'s annotators have no majority for one of its classes")


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Which label of which dataset becomes which.

    Attributes:
        order: labels of the result, in order; empty leaves that to the data.
        tables: for each dataset, by the name of its file or folder, old labels and their new ones; those under
            ``all`` are for every dataset.  An empty new label leaves the faces out.
    """

    order: tuple[str, ...]
    tables: dict[str, dict[str, str]]

    def apply(self, datasets: Mapping[str, Dataset]) -> list[Dataset]:
        """Datasets, by the names of their files or folders, under their new labels.

        Raises:
            DataError: a table is for none of them, or nothing of one is left.
        """
        stems = {name.split(".")[0] for name in datasets}
        if strange := [name for name in self.tables if name not in {"all", *datasets, *stems}]:
            known = ", ".join(sorted({*datasets, *stems}))
            raise DataError(
                f"the map's table [{strange[0]}] is for no dataset; they are called {known}, and [all] is all"
            )
        return [self._one(name, dataset) for name, dataset in datasets.items()]

    def _one(self, name: str, dataset: Dataset) -> Dataset:
        own = {**self.tables.get(name.split(".", maxsplit=1)[0], {}), **self.tables.get(name, {})}
        table = {**self.tables.get("all", {}), **own}
        if strange := [label for label in own if label not in dataset.labels]:
            known = ", ".join(dataset.labels)
            raise DataError(f"the map renames {strange[0]} of {name}, which has no such label; it has {known}")
        names = [table.get(label, label) for label in dataset.labels]
        labels = self.order or tuple(dict.fromkeys(name for name in names if name))
        numbers = np.array([labels.index(name) if name in labels else -1 for name in names], np.int64)
        classes = numbers[dataset.classes]
        if (classes < 0).all():
            raise DataError(f"the map leaves nothing of {name}, whose labels are {', '.join(dataset.labels)}")
        gone = ", ".join(old for old, new in zip(dataset.labels, names, strict=True) if new not in labels)
        renamed = replace(dataset, labels=labels, classes=np.maximum(classes, 0))
        if dataset.votes is not None:
            voted = [table.get(label, label) for label in dataset.vote_labels]
            merged = tuple(dict.fromkeys(voted))
            votes = np.stack([dataset.votes[:, [v == m for v in voted]].sum(axis=1) for m in merged], axis=1)
            renamed = replace(renamed, votes=votes, vote_labels=merged)
        return renamed.part(classes >= 0, f"of labels {gone}, by the map")


def fuse(datasets: Sequence[Dataset]) -> Dataset:
    """Several datasets as one, with the labels of all in the order in which they are first met.

    Raises:
        DataError: two have images of different sizes.
    """
    first, *others = datasets
    if not others:
        return first
    labels = tuple(dict.fromkeys(label for dataset in datasets for label in dataset.labels))
    numbered = [dataset.with_labels(labels) for dataset in datasets]
    asked = [dataset for dataset in datasets if dataset.votes is not None]
    vote_labels = tuple(dict.fromkeys(label for dataset in asked for label in dataset.vote_labels))
    votes = [dataset.votes_for(vote_labels) for dataset in datasets]
    none = [np.zeros((len(dataset), len(vote_labels)), np.float32) for dataset in datasets]
    return Dataset(
        name=" + ".join(dataset.name for dataset in datasets),
        labels=labels,
        faces=_join([(dataset.faces, np.arange(len(dataset))) for dataset in numbered]),
        classes=np.concatenate([dataset.classes for dataset in numbered]),
        usages=np.concatenate([dataset.usages for dataset in numbered]),
        skipped=tuple(line for dataset in datasets for line in dataset.skipped),
        votes=np.concatenate([n if v is None else v for v, n in zip(votes, none, strict=True)]) if asked else None,
        vote_labels=vote_labels if asked else FERPLUS_COLUMNS,
        left_out=tuple(line for dataset in datasets for line in dataset.left_out),
    )


class FaceStore:
    """Faces one after the other into a temporary file without a name, then a memory map of it.

    A context manager: the file is closed at its end, the map lives on.
    """

    def __init__(self, side: int) -> None:
        """Take faces of shape (side, side)."""
        self._side = side
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        """Take faces."""
        return self

    def __exit__(self, *failure: object) -> None:
        """Take no more."""
        self._file.close()

    def add(self, faces: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Add uint8 faces of shape (side, side)."""
        try:
            self._file.writelines(face.tobytes() for face in faces)
        except OSError as error:
            raise no_place(error) from error

    def mapped(self) -> npt.NDArray[np.uint8]:
        """All faces, uint8 of shape (n, side, side), memory-mapped; at least one was added."""
        self._file.flush()
        faces: npt.NDArray[np.uint8] = np.memmap(self._file, np.uint8, "r")
        return faces.reshape(-1, self._side, self._side)


def no_place(error: OSError) -> InputError:
    """What to say where faces have no place in the folder for temporary files."""
    return InputError(
        f"{tempfile.gettempdir()}: no place for the decoded faces ({error.strerror}); set TMPDIR to a folder with room"
    )


def _join(parts: Iterable[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]) -> npt.NDArray[np.uint8]:
    """Rows of face arrays as one array, which is memory-mapped when any of them is."""
    parts = list(parts)
    sides = {faces.shape[1] for faces, _ in parts}
    if len(sides) > 1:
        raise DataError(f"images of different sides ({', '.join(map(str, sorted(sides)))}) cannot be put together")
    if not any(isinstance(faces, np.memmap) for faces, _ in parts) or not any(len(rows) for _, rows in parts):
        return np.concatenate([faces[rows] for faces, rows in parts])
    with FaceStore(sides.pop()) as store:
        for faces, rows in parts:
            for begin in range(0, len(rows), _CHUNK):
                store.add(faces[rows[begin : begin + _CHUNK]])
        return store.mapped()
