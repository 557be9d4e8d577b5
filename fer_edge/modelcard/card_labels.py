"""The labels of a classifier: their numbers, and a check, because they become names of columns, files and keywords."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Final

from fer_edge.utils.limits import LABEL_CHARACTERS, LABELS

if TYPE_CHECKING:
    from collections.abc import Sequence

_UNPRINTABLE: Final = {"Cc", "Cn", "Cs", "Zl", "Zp"}  # categories: control, unassigned, surrogates, separators

_LONGEST_LABEL: Final = 200  # characters; patterns take time in proportion to the square
_NUMBER_FIRST: Final = re.compile(r"(\d{1,3})(?:\s*[:=,;.)-]\s*|\s+)(.*\S)")  # as Teachable Machine writes: 0 Angry
_NUMBER_LAST: Final = re.compile(r"(.*[^\s:=,;-])(?:\s*[:=,;-]\s*|\s+)(\d{1,3})")


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


def by_number(lines: Sequence[str]) -> tuple[str, ...]:
    """Return labels in the order of their numbers, if all are numbered; otherwise as they are."""
    if any(len(line) > _LONGEST_LABEL for line in lines):
        return tuple(lines)
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        numbered = sorted((int(one[number]), one[name].strip("'\" ")) for one in found if one)
        if len(numbered) == len(lines) and is_order([one for one, _ in numbered]):
            return tuple(label for _, label in numbered)
    return tuple(lines)


def is_order(numbers: Sequence[int]) -> bool:
    """Return whether sorted numbers count from 0 or from 1 without a gap."""
    return (
        bool(numbers) and numbers[0] in {0, 1} and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    )
