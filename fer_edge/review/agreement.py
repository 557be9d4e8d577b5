"""How far reviewers agree, beyond what chance would bring."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from fer_edge.review.decisions import Decisions

# The maintained package for Krippendorff's alpha (krippendorff) is under the GPL, and scikit-learn, which has Cohen's
# kappa, is too large for a Pi.


class ReviewerCount(msgspec.Struct, frozen=True):
    """How much a reviewer did.

    Attributes:
        name: the reviewer.
        faces: how many faces have an answer.
    """

    name: str
    faces: int


class PairAgreement(msgspec.Struct, frozen=True):
    """How far two reviewers agree.

    Attributes:
        reviewers: their names.
        faces: how many faces both answered.
        same: how many of these got the same answer.
        kappa: see `cohen_kappa`.
    """

    reviewers: tuple[str, str]
    faces: int
    same: int
    kappa: float | None


class Agreement(msgspec.Struct, frozen=True):
    """How far all reviewers agree.

    Attributes:
        reviewers: each reviewer.
        pairs: each two who answered the same faces.
        faces: how many faces have two answers or more.
        alpha: see `krippendorff_alpha`.
    """

    reviewers: tuple[ReviewerCount, ...]
    pairs: tuple[PairAgreement, ...]
    faces: int
    alpha: float | None


def measure_agreement(names: Sequence[str], answers: npt.NDArray[np.int64], units: npt.NDArray[np.int64]) -> Agreement:
    """Measure how far reviewers agree.

    Args:
        names: the reviewers.
        answers: of shape (reviewers, faces), 0 or more; -1 for none.
        units: the faces that count: one of each group of near-duplicates, because one decision may have been for all.
    """
    counted = answers[:, units]
    pairs = []
    for one, other in combinations(range(len(names)), 2):
        both = (counted[one] >= 0) & (counted[other] >= 0)
        if both.any():
            same = int((both & (counted[one] == counted[other])).sum())
            kappa = cohen_kappa(counted[one], counted[other])
            pairs.append(PairAgreement((names[one], names[other]), int(both.sum()), same, kappa))
    reviewers = tuple(ReviewerCount(name, int((row >= 0).sum())) for name, row in zip(names, answers, strict=True))
    shared = int(((counted >= 0).sum(axis=0) >= 2).sum())
    return Agreement(reviewers, tuple(pairs), shared, krippendorff_alpha(counted))


def number_answers(decisions: Decisions, index: Mapping[str, int], numbers: dict[str, int]) -> npt.NDArray[np.int64]:
    """Return the number of a reviewer's answer for each face; -1 for none.

    Args:
        decisions: the reviewer's decisions.
        index: position of each face, by hash.
        numbers: number of each answer; those that are missing are added.
    """
    answers = np.full(len(index), -1, np.int64)
    for sha256, answer in decisions.answers.items():
        if sha256 in index:
            answers[index[sha256]] = numbers.setdefault(answer.label, len(numbers))
    return answers


def cohen_kappa(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> float | None:
    """Compute Cohen's kappa of two reviewers (Cohen 1960, https://doi.org/10.1177/001316446002000104).

    It is the share of faces with the same answer, above the share that two reviewers would reach who give each answer
    as often, but to faces at random.

    Args:
        one: the answer of the first for each face, 0 or more; -1 for none.
        other: the answers of the second.

    Returns:
        At most 1; None if no face has both answers, or if both always gave one and the same.
    """
    both = (one >= 0) & (other >= 0)
    one, other = one[both], other[both]
    if not len(one):
        return None
    choices = max(one.max(), other.max()) + 1
    expected = float(np.bincount(one, minlength=choices) @ np.bincount(other, minlength=choices)) / len(one) ** 2
    return None if expected == 1 else (float((one == other).mean()) - expected) / (1 - expected)


def krippendorff_alpha(answers: npt.NDArray[np.int64]) -> float | None:
    """Compute Krippendorff's alpha for any number of reviewers, who need not have seen the same faces.

    The answers are nominal: two of them are equal or not. The formula is that of part C of Krippendorff 2011,
    "Computing Krippendorff's Alpha-Reliability"; see also Hayes & Krippendorff 2007,
    https://doi.org/10.1080/19312450709336664.

    Args:
        answers: of shape (reviewers, faces), 0 or more; -1 for none.

    Returns:
        At most 1; None if no face has two answers, or if all answers are one and the same.
    """
    choices = int(answers.max(initial=-1)) + 1
    counts = np.stack([(answers == choice).sum(axis=0) for choice in range(choices)]) if choices else np.zeros((0, 0))
    counts = counts[:, counts.sum(axis=0) >= 2].astype(np.float64)  # single answers say nothing of agreement
    total = counts.sum()
    possible = total**2 - (counts.sum(axis=1) ** 2).sum()  # pairs of different answers, if faces were mixed
    if not possible:
        return None
    agreeing = (counts * (counts - 1) / (counts.sum(axis=0) - 1)).sum()
    return float(1 - (total - 1) * (total - agreeing) / possible)
