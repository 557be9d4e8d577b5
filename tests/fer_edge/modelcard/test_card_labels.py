from __future__ import annotations

import pytest

from fer_edge.modelcard.card_labels import label_problem


@pytest.mark.parametrize("labels", [("happy", "sad"), ("glücklich", "悲しい"), ("a b", "a-b", "a/b"), ("1", "2")])
def test_accepts_labels_of_any_language(labels: tuple[str, ...]) -> None:
    assert label_problem(labels) == ""


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (("happy",), "labels: 1 of them"),
        (tuple(map(str, range(1001))), "labels: 1001 of them"),
        (("happy", "happy"), "duplicate label: 'happy'"),
        (("happy", "Happy"), "differ in case"),
        (("happy", "happy "), "differ in case or spaces"),
        (("strasse", "STRASSE", "x"), "differ in case"),
        (("ﬁne", "fine"), "differ in case"),
        (("", "sad"), "it has 0 characters"),
        (("x" * 61, "sad"), "it has 61 characters"),
        (("a\0b", "sad"), "control character"),
        (("a\x1b[31m", "sad"), "control character"),
        (("a\nb", "sad"), "control character"),
        (("a\u2028b", "sad"), "control character"),
        (("a\ufffe", "sad"), "control character"),
    ],
)
def test_rejects_labels_that_break_tables_files_or_terminals(labels: tuple[str, ...], problem: str) -> None:
    found = label_problem(labels)
    assert problem in found
    assert found.isprintable()
