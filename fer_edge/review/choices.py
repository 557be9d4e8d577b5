"""What a reviewer can say of a face, and the key for each answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.classification.labels import canonical_label
from fer_edge.datasets.dataset import USAGES
from fer_edge.errors import one_line
from fer_edge.modelcard.card_labels import label_problem
from fer_edge.utils.file_kinds import is_system_name

if TYPE_CHECKING:
    from collections.abc import Iterable

CANNOT_TELL: Final = "cannot tell"
NOT_A_FACE: Final = "not a face"
NO_EMOTION: Final = (CANNOT_TELL, NOT_A_FACE)
"""Answers that keep a face out of the dataset."""

_KEYS: Final = {CANNOT_TELL: "t", NOT_A_FACE: "x"}
_RESERVED: Final = frozenset({*_KEYS.values(), "z"})  # z undoes
_MORE_KEYS: Final = "1234567890"


def emotion_problem(label: str) -> str:
    """Return why a label cannot be the name of a class folder; an empty text if it can."""
    if problem := label_problem((label, f"not {label[:8]}")):
        return problem
    if one_line(label) != label or set(label) & set("/\\") or label.strip() != label:
        return f"label {label!r}: it cannot be the name of a folder"
    if is_system_name(label) or label.lower() in USAGES or label in NO_EMOTION:
        return f"label {label!r}: this name has a meaning of its own in a dataset"
    return ""


def canonical_emotions(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the common spelling of labels, each once; those that cannot be class folders are left out."""
    return tuple(dict.fromkeys(label for label in map(canonical_label, labels) if not emotion_problem(label)))


def assign_keys(emotions: Iterable[str]) -> dict[str, str]:
    """Return the key for each answer.

    An emotion gets the first letter of its name that is free, otherwise a digit; with more emotions than keys, the last
    ones have an empty key and need the buttons.

    Args:
        emotions: the emotions, in order.
    """
    keys: dict[str, str] = {}
    for emotion in emotions:
        candidates = [*filter(str.isalpha, emotion.lower()), *_MORE_KEYS]
        taken = _RESERVED | set(keys.values())
        keys[emotion] = next((key for key in candidates if key not in taken), "")
    return keys | _KEYS
