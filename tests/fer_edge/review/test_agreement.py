"""The coefficients against published examples and another implementation."""

from __future__ import annotations

import numpy as np
import pytest

from fer_edge.review.agreement import cohen_kappa, krippendorff_alpha, measure_agreement


def parse(text: str) -> list[int]:
    return [-1 if value == "." else int(value) for value in text.split()]


# The nominal example of part C of Krippendorff 2011, and its alpha.
KRIPPENDORFF = np.array(
    [
        parse("1 2 3 3 2 1 4 1 2 . . ."),
        parse("1 2 3 3 2 2 4 1 2 5 . 3"),
        parse(". 3 3 3 2 3 4 2 2 5 1 ."),
        parse("1 2 3 3 2 4 4 1 2 5 1 ."),
    ]
)


def test_alpha_is_that_of_the_published_example() -> None:
    assert krippendorff_alpha(KRIPPENDORFF) == pytest.approx(0.743, abs=0.0005)


def test_kappa_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    one = rng.integers(0, 7, 200)
    other = np.where(rng.random(200) < 0.6, one, rng.integers(0, 7, 200))
    assert cohen_kappa(one, other) == pytest.approx(metrics.cohen_kappa_score(one, other))
    one[:50] = -1
    assert cohen_kappa(one, other) == pytest.approx(metrics.cohen_kappa_score(one[50:], other[50:]))


def test_extremes() -> None:
    one = np.array([0, 1, 2, 0])
    assert cohen_kappa(one, one) == 1
    assert krippendorff_alpha(np.stack([one, one])) == 1
    nothing = np.full(4, -1)
    same = np.zeros(4, np.int64)
    for other in (nothing, same):
        assert cohen_kappa(same, other) is None
        assert krippendorff_alpha(np.stack([same, other])) is None
    assert krippendorff_alpha(np.empty((0, 4), np.int64)) is None
    assert cohen_kappa(np.array([0, 1]), np.array([1, 0])) == -1


def test_near_duplicates_count_once() -> None:
    answers = np.array([[0, 0, 0, 1], [0, 0, 0, 2]])
    measured = measure_agreement(["ann", "bob"], answers, np.array([0, 3]))
    (pair,) = measured.pairs
    assert (pair.faces, pair.same, measured.faces) == (2, 1, 2)
    assert [each.faces for each in measured.reviewers] == [4, 4]
