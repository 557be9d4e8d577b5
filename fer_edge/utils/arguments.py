"""Checking what users pass as arguments, without loading anything heavy."""

from __future__ import annotations

import os
from typing import Final

from fer_edge.errors import InputError

_MAX_LENGTH: Final = 80


def describe_value(value: object) -> str:
    """Return a value for an error message: at most 80 characters of a name or number, the type of anything else."""
    if value is None or isinstance(value, str | bytes | int | float | os.PathLike):
        text = " ".join(repr(value).split())
        return text if len(text) <= _MAX_LENGTH else f"{text[: _MAX_LENGTH - 3]}..."
    return f"a value of type {type(value).__name__}"


def check_path(value: object, name: str, kind: str = "a path") -> str:
    """Return a path as text.

    Args:
        value: the path.
        name: name of the argument, for the error.
        kind: what the argument must be, for the error.

    Raises:
        InputError: the value is not a path, is empty, or contains a NUL character.
    """
    text: object = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise InputError(f"{name}: {describe_value(value)} is not {kind}")
    if "\0" in text:
        raise InputError(f"{name}: {describe_value(text)} contains a NUL character, which no path can")
    return text
