"""Read the value of ``--labels`` in the forms in which people keep the names of a model's outputs."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

from fer_edge.errors import InputError
from fer_edge.modelcard.card_labels import by_number, is_order
from fer_edge.utils.bounded_file import read_text

_FORMS: Final = "angry,disgust,... or a file with one label per line"
_OPENING: Final = ("[", "{", "(")
_LONGEST: Final = 10_000  # characters of a list or dict of Python or JSON


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
        labels = by_number([line.strip() for line in lines if line.strip()])
    if len(labels) < 2:
        raise InputError(f"--labels {text}: give at least two, as {_FORMS}")
    return labels


def _parse_literal(source: str, content: str) -> tuple[str, ...]:
    """Return the labels of a list, tuple or dict of Python or JSON."""
    try:
        value = ast.literal_eval(content) if len(content) <= _LONGEST else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        # Without quotes, as a shell may have left it.
        value = by_number([one.strip() for one in content[1:].rstrip("]})").split(",") if one.strip()])
    match value:
        case list() | tuple() if all(isinstance(one, str) for one in value):
            return tuple(one.strip() for one in value)
        case dict():
            pairs = [(key, name) if _is_number(key) else (name, key) for key, name in value.items()]
            if all(_is_number(number) and isinstance(name, str) for number, name in pairs):
                numbered = sorted((int(number), name.strip()) for number, name in pairs)
                if is_order([number for number, _ in numbered]):
                    return tuple(name for _, name in numbered)
    raise InputError(f"--labels {source}: a list or dict without the order of its labels; give {_FORMS}")


def _is_number(value: object) -> bool:
    """Return whether a value is the number of a label, or its digits."""
    return str(value).isdecimal() and len(str(value)) <= 3
