"""Read the value of ``--labels`` in the forms in which people keep the names of a model's outputs."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge.utils.bounded_file import read_text

if TYPE_CHECKING:
    from collections.abc import Sequence

_FORMS: Final = "angry,disgust,... or a file with one label per line"
_OPENING: Final = ("[", "{", "(")
_LONGEST_LABEL: Final = 200  # characters; patterns take time in proportion to the square
_LONGEST: Final = 10_000  # characters of a list or dict of Python or JSON
_NUMBER_FIRST: Final = re.compile(r"(\d{1,3})(?:\s*[:=,;.)-]\s*|\s+)(.*\S)")  # as Teachable Machine writes: 0 Angry
_NUMBER_LAST: Final = re.compile(r"(.*[^\s:=,;-])(?:\s*[:=,;-]\s*|\s+)(\d{1,3})")


def parse_labels(text: str) -> tuple[str, ...]:
    """Read the value of ``--labels``.

    Args:
        text: ``angry,disgust,...``, or a file with one label per line. In both, the labels may be numbered, or be a
            list or a dict of Python or JSON, such as the ``class_indices`` of a Keras generator. Numbers give their
            order.

    Raises:
        InputError: there are fewer than two labels, they have no order, or the file cannot be read.
    """
    content = text.strip()
    if "," not in content and not content.startswith(_OPENING):
        try:
            content = read_text(Path(text)).strip()
        except InputError as error:
            raise InputError(f"--labels {error}; give {_FORMS}") from error
    if content.startswith(_OPENING):
        labels = _parse_literal(text, content)
    else:
        lines = content.splitlines()
        if len(lines) == 1:
            lines = content.split(",")
        labels = _by_number([line.strip() for line in lines if line.strip()])
    if len(labels) < 2:
        raise InputError(f"--labels {text}: give at least two, as {_FORMS}")
    return labels


def _parse_literal(source: str, content: str) -> tuple[str, ...]:
    """Return the labels of a list, tuple or dict of Python or JSON."""
    try:
        value = ast.literal_eval(content) if len(content) <= _LONGEST else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        # Without quotes, as a shell may have left it.
        value = _by_number([one.strip() for one in content[1:].rstrip("]})").split(",") if one.strip()])
    match value:
        case list() | tuple() if all(isinstance(one, str) for one in value):
            return tuple(one.strip() for one in value)
        case dict():
            pairs = [(key, name) if _is_number(key) else (name, key) for key, name in value.items()]
            if all(_is_number(number) and isinstance(name, str) for number, name in pairs):
                numbered = sorted((int(number), name.strip()) for number, name in pairs)
                if _is_order([number for number, _ in numbered]):
                    return tuple(name for _, name in numbered)
    raise InputError(f"--labels {source}: a list or dict without the order of its labels; give {_FORMS}")


def _by_number(lines: Sequence[str]) -> tuple[str, ...]:
    """Return labels in the order of their numbers, if all are numbered; otherwise as they are."""
    if any(len(line) > _LONGEST_LABEL for line in lines):
        return tuple(lines)
    for pattern, number, name in ((_NUMBER_FIRST, 1, 2), (_NUMBER_LAST, 2, 1)):
        found = [pattern.fullmatch(line) for line in lines]
        numbered = sorted((int(one[number]), one[name].strip("'\" ")) for one in found if one)
        if len(numbered) == len(lines) and _is_order([one for one, _ in numbered]):
            return tuple(label for _, label in numbered)
    return tuple(lines)


def _is_number(value: object) -> bool:
    """Return whether a value is the number of a label, or its digits."""
    return str(value).isdecimal() and len(str(value)) <= 3


def _is_order(numbers: Sequence[int]) -> bool:
    """Return whether sorted numbers count from 0 or from 1 without a gap."""
    return (
        bool(numbers) and numbers[0] in {0, 1} and list(numbers) == list(range(numbers[0], numbers[0] + len(numbers)))
    )
