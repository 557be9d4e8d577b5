"""Checking the labels of a classifier: they become names of columns, files and keywords."""

from __future__ import annotations

import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final

from fer_edge.utils.limits import LABEL_CHARACTERS, LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNPRINTABLE: Final = {"Cc", "Cn", "Cs", "Zl", "Zp"}  # categories: control, unassigned, surrogates, separators


def label_problem(labels: Sequence[str]) -> str:
    """Return what is wrong with the labels of a model; an empty text if nothing is."""
    if not 2 <= len(labels) <= LABELS:
        return f"labels: {len(labels)} of them, where a classifier has 2 to {LABELS}"
    for label in labels:
        if not label.strip() or len(label) > LABEL_CHARACTERS:
            return f"label {label[:LABEL_CHARACTERS]!r}: it has {len(label)} characters, not 1 to {LABEL_CHARACTERS}"
        if any(unicodedata.category(character) in _UNPRINTABLE for character in label):
            return f"label {label!r}: it has a control character"
    folded = Counter(map(_fold, labels))
    twice = [label for label in labels if folded[_fold(label)] > 1]
    if len(set(labels)) < len(labels):
        return f"a label twice, or duplicate label: {next(label for label in labels if labels.count(label) > 1)!r}"
    return f"labels {twice[0]!r} and {twice[1]!r}: they differ in case or spaces alone" if twice else ""


def _fold(label: str) -> str:
    """Return what tables and file systems that ignore case take a label for."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()).strip()
