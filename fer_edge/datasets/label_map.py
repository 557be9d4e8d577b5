"""Label maps: files that rename, merge and leave out labels of datasets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.classification.labels import AFFECTNET, EXPW, RAFDB, canonical_label
from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import read_text
from fer_edge.utils.toml import parse_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset


def _numbered(labels: Sequence[str], first: int = 0) -> dict[str, str]:
    return {str(number): label for number, label in enumerate(labels, first)}


SHIPPED_MAPS: Final = {
    "affectnet": _numbered((*AFFECTNET, "", "", "")),  # none, uncertain, no face
    "expw": _numbered(EXPW),
    "raf-db": _numbered(RAFDB, 1),
}
"""New label by the number that names a folder, for public datasets."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A mapping from the labels of datasets to new labels.

    Attributes:
        order: labels of the result, in order; if empty, the order of the data.
        tables: new label by old label, for each dataset by the name of its file or folder; the table ``all`` applies
            to every dataset. An empty new label leaves the faces out.
    """

    order: tuple[str, ...]
    tables: dict[str, dict[str, str]]

    def apply(self, datasets: Mapping[str, Dataset]) -> list[Dataset]:
        """Rename the labels of datasets.

        Args:
            datasets: the datasets by the names of their files or folders.

        Raises:
            DataError: a table or a label belongs to none of the datasets, or no face of a dataset is left.
        """
        stems = {name.split(".")[0] for name in datasets}
        if unknown := [name for name in self.tables if name not in {"all", *datasets, *stems}]:
            known = ", ".join(sorted({*datasets, *stems}))
            raise DataError(
                f"the map's table [{unknown[0]}] is for no dataset; they are called {known}, and [all] is for all"
            )
        return [self._apply_to(name, dataset) for name, dataset in datasets.items()]

    def _apply_to(self, name: str, dataset: Dataset) -> Dataset:
        own = {**self.tables.get(name.split(".", maxsplit=1)[0], {}), **self.tables.get(name, {})}
        table = {**self.tables.get("all", {}), **own}
        if unknown := [label for label in own if label not in dataset.labels]:
            known = ", ".join(dataset.labels)
            raise DataError(f"the map renames {unknown[0]} of {name}, which has no such label; it has {known}")
        names = [table.get(label, label) for label in dataset.labels]
        labels = self.order or tuple(dict.fromkeys(name for name in names if name))
        numbers = np.array([labels.index(name) if name in labels else -1 for name in names], np.int64)
        classes = numbers[dataset.classes]
        if (classes < 0).all():
            raise DataError(f"the map leaves no face of {name}, whose labels are {', '.join(dataset.labels)}")
        missing = ", ".join(old for old, new in zip(dataset.labels, names, strict=True) if new not in labels)
        renamed = replace(dataset, labels=labels, classes=np.maximum(classes, 0))
        if dataset.votes is not None:
            voted = [table.get(label, label) for label in dataset.vote_labels]
            merged = tuple(dict.fromkeys(voted))
            votes = np.stack([dataset.votes[:, [v == m for v in voted]].sum(axis=1) for m in merged], axis=1)
            renamed = replace(renamed, votes=votes, vote_labels=merged)
        return renamed.select(classes >= 0, f"of labels {missing}, by the map")


def load_label_map(path: Path) -> LabelMap:
    """Read a label map.

    Args:
        path: a TOML file with ``order = [...]``, a table ``[all]``, and tables named like files or folders; each table
            holds lines ``old = "new"``. Or a name of `SHIPPED_MAPS`, if there is no such file.

    Raises:
        InputError: the file cannot be read or is not a label map.
    """
    if (shipped := SHIPPED_MAPS.get(str(path).lower())) and not path.exists():
        return LabelMap((), {"all": shipped})
    try:
        text = read_text(path, DataError)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix("cannot be read ").strip("()")
        reason = reason.replace("not a text file", "it is not text")
        raise DataError(f"{path}: the label map cannot be read ({reason})") from error
    document = parse_toml(text, str(path))
    order = document.pop("order", [])
    tables = {name: table for name, table in document.items() if isinstance(table, dict)}
    texts = [
        *(order if isinstance(order, list) else [None]),
        *(new for table in tables.values() for new in table.values()),
    ]
    if len(tables) < len(document) or not all(isinstance(text, str) for text in texts):
        raise DataError(f'{path}: not a label map; it holds order = ["..."] and tables with lines old = "new"')
    wanted = [canonical_label(label) for label in order]
    _check_duplicates(path, "order", wanted)
    for name, table in tables.items():
        _check_duplicates(path, f"[{name}]", [canonical_label(label) for label in table])
    return LabelMap(
        tuple(wanted),
        {
            name: {canonical_label(old): canonical_label(new) for old, new in table.items()}
            for name, table in tables.items()
        },
    )


def _check_duplicates(path: Path, place: str, labels: list[str]) -> None:
    if twice := [label for label, count in Counter(labels).items() if count > 1]:
        raise DataError(
            f"{path}, {place}: {twice[0]} is there twice, maybe under two names for it; leave one of them out"
        )
