"""Accuracy of classifiers in groups of faces, and a table of what they answered for each face."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.comparison import (
    AccuracyChange,
    AccuracyDifference,
    change_of_accuracy,
    difference_of_accuracy,
    wilson_interval,
)
from fer_edge.errors import DataError
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt


_MAX_GROUPS: Final = 100


@dataclass(frozen=True, slots=True)
class Answers:
    """What a classifier answered for the faces of a dataset.

    Attributes:
        model: name of the classifier.
        labels: its labels.
        scores: probabilities, float32 of shape (n, labels).
        truth: index into ``labels`` for each face, int64 of shape (n,).
    """

    model: str
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the highest score is that of the true class, for each face."""
        return np.asarray(self.scores.argmax(axis=1) == self.truth)


class GroupAccuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of classifiers in one group of faces.

    Attributes:
        value: what these faces have in common.
        faces: how many there are.
        accuracy: accuracy of each classifier, 0..1.
        intervals: 95 % interval of each accuracy (Wilson 1927), 0..1.
        differences: accuracy of each classifier less its accuracy on the faces of all other groups; empty if there is
            one group only.
        changes: the accuracy of each further classifier less that of the first.
    """

    value: str
    faces: int
    accuracy: list[float]
    intervals: list[tuple[float, float]]
    differences: list[AccuracyDifference]
    changes: list[AccuracyChange]


def measure_groups(answers: Sequence[Answers], column: str, values: npt.NDArray[np.str_]) -> list[GroupAccuracy]:
    """Measure the accuracy of each group of faces.

    Args:
        answers: classifiers on the same n faces.
        column: what the faces are grouped by, for errors.
        values: value of each face, str of shape (n,).

    Returns:
        The groups, in the order of the numbers in their values, then of their letters.

    Raises:
        DataError: there are more than 100 groups.
    """
    groups = sorted(set(values.tolist()), key=_natural_order)
    if len(groups) > _MAX_GROUPS:
        raise DataError(f"{column}: {len(groups)} different values; give a column with {_MAX_GROUPS} groups at most")
    result = []
    for value in groups:
        rows = values == value
        count = int(rows.sum())
        accuracy = [float(one.right[rows].mean()) for one in answers]
        first, *others = answers
        result.append(
            GroupAccuracy(
                value=value,
                faces=count,
                accuracy=accuracy,
                intervals=[wilson_interval(share, count) for share in accuracy],
                differences=[
                    difference_of_accuracy(one.right[rows], one.right[~rows]) for one in answers if len(groups) > 1
                ],
                changes=[change_of_accuracy(first.right[rows], other.right[rows]) for other in others],
            )
        )
    return result


def write_answers(path: Path, columns: Mapping[str, npt.NDArray[np.str_]], answers: Sequence[Answers]) -> None:
    """Write a CSV with a row for each face and classifier.

    Its columns are ``model``, those that are given, ``label``, ``answer``, ``right`` (0 or 1) and the score of each
    label, which is empty for labels that a classifier lacks.

    Args:
        path: the file to write, whole or not at all.
        columns: what is known of the n faces, by name, str of shape (n,) each.
        answers: classifiers on these faces.
    """
    scored = list(dict.fromkeys(label for one in answers for label in one.labels))
    known = list(zip(*columns.values(), strict=True))
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", *columns, "label", "answer", "right", *scored])
        for one in answers:
            at = [one.labels.index(label) if label in one.labels else -1 for label in scored]
            for values, label, scores in zip(known, one.truth, one.scores, strict=True):
                answer = scores.argmax()
                shown = (f"{scores[k]:.4f}" if k >= 0 else "" for k in at)
                right = int(answer == label)
                writer.writerow([one.model, *values, one.labels[label], one.labels[answer], right, *shown])


def _natural_order(value: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts numbers within texts by their size."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", value)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
