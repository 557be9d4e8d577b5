"""FER+: the votes of ten annotators for each face of FER-2013 (Barsoum et al. 2016, arXiv:1608.01041)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.classification.labels import FERPLUS
from fer_edge.datasets.dataset import canonical_usage
from fer_edge.datasets.fer2013_csv import raise_data_errors
from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import csv_rows, open_table

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset

# The columns of fer2013new.csv, in the order of FERPLUS_COLUMNS.
_VOTE_COLUMNS: Final = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)


def add_votes(dataset: Dataset, path: Path) -> Dataset:
    """Add the votes of FER+ to a dataset that was read from FER-2013's CSV.

    Args:
        dataset: the content of ``fer2013.csv``.
        path: ``fer2013new.csv`` of the FER+ project, which has one row for each row of ``fer2013.csv``, in the same
            order.

    Raises:
        DataError: the file has too few columns or rows, or its rows do not belong to the dataset.
    """
    count = 0
    usages: list[str] = []
    votes: list[npt.NDArray[np.float32]] = []
    with raise_data_errors(path), open_table(path) as lines:
        rows = csv_rows(lines)
        head = next(rows, [])
        missing = [column for column in ("Usage", *_VOTE_COLUMNS) if column not in head]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; give FER+'s fer2013new.csv")
        positions = [head.index(column) for column in _VOTE_COLUMNS]
        for number, row in enumerate(rows, 2):
            if not row:
                continue
            if len(row) != len(head):
                raise DataError(f"{path}, line {number}: not as many columns as its first line; download it again")
            count += 1
            if len(usages) <= len(dataset):
                usages.append(canonical_usage(row[head.index("Usage")]))
                votes.append(np.array([int(row[position]) for position in positions], np.float32))
    if usages != dataset.usages.tolist():
        raise DataError(
            f"{path}: its {count} rows are not the {len(dataset)} rows of {dataset.name};"
            " give the fer2013new.csv and the fer2013.csv that belong together"
        )
    return replace(dataset, votes=np.stack(votes))


def agreement(dataset: Dataset) -> npt.NDArray[np.str_]:
    """Return for each face which share of its annotators gave the most frequent answer, in bands, str of shape (n,).

    Raises:
        DataError: the dataset has no votes.
    """
    if dataset.votes is None:
        raise DataError(f"{dataset.name}: the agreement of annotators needs their votes; give --votes fer2013new.csv")
    share = dataset.votes.max(axis=1) / np.maximum(dataset.votes.sum(axis=1), 1)
    bands = [share >= 1, share >= 0.8, share >= 0.6, share > 0]
    return np.select(bands, ["100 % agree", "80 to 99 % agree", "60 to 79 % agree", "0 to 59 % agree"], "no votes")


def label_by_majority(dataset: Dataset) -> Dataset:
    """Give each face the class that more than half of its annotators chose, one of FER+'s eight classes.

    This is the protocol of Barsoum et al. 2016. A vote that no other annotator shares is dropped as an outlier. Faces
    without a majority, or whose majority chose "unknown" or "no face", are left out. Faces without votes, from other
    datasets, keep their class, even if FER+ does not have it.

    Raises:
        DataError: the dataset has no votes.
    """
    if dataset.votes is None:
        raise DataError(f"{dataset.name}: FER+'s classes need its votes; give --votes fer2013new.csv")
    voted = dataset.votes.sum(axis=1) > 0
    own = {dataset.labels[i] for i in np.unique(dataset.classes[~voted])}
    labels = (*FERPLUS, *(label for label in dataset.labels if label in own and label not in FERPLUS))
    table = np.array([labels.index(label) if label in labels else -1 for label in dataset.labels])
    shared = np.where(dataset.votes > 1, dataset.votes, 0)
    leader = shared.argmax(axis=1)
    clear = (shared.max(axis=1) > shared.sum(axis=1) / 2) & (leader < len(FERPLUS))
    classes = np.where(voted, leader, table[dataset.classes])
    kept = ~voted | clear
    relabelled = replace(dataset, labels=labels, classes=np.where(kept, classes, 0))
    return relabelled.select(kept, "on which FER+'s annotators have no majority for one of its classes")
