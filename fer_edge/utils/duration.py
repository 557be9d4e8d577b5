"""Durations as people write them."""

from __future__ import annotations

import math
import re
from typing import Final

from fer_edge.errors import InputError
from fer_edge.utils.arguments import describe_value

_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_duration(text: str, option: str, *, min_s: float = 0.0, max_s: float = math.inf) -> float:
    """Convert a duration such as ``500ms``, ``1s``, ``2m``, ``1.5h`` or ``90`` to seconds.

    Args:
        text: a positive number with a unit: ``ms``, ``s``, ``m``, ``h`` or ``d``; without a unit, seconds.
        option: the command-line option that gave it, for the error.
        min_s: shortest accepted duration, in seconds.
        max_s: longest accepted duration, in seconds.

    Raises:
        InputError: the text is not a duration, or the duration is zero or outside the limits.
    """
    display = text if text.isprintable() and len(text) <= 80 else describe_value(text)
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|m|h|d|)", text.strip())
    if not match:
        raise InputError(f"{option} {display}: not a duration; write a number and a unit, such as 500ms, 1s, 2m or 1h")
    seconds = float(match[1]) * _SECONDS[match[2]]
    if seconds <= 0:
        raise InputError(f"{option} {display}: give a duration above 0, such as 500ms, 1s, 2m or 1h")
    if not min_s <= seconds <= max_s:
        limits = f"from {_words(min_s)} to {_words(max_s)}" if math.isfinite(max_s) else f"of at least {_words(min_s)}"
        raise InputError(f"{option} {display}: give a duration {limits}")
    return seconds


def _words(seconds: float) -> str:
    """Write a duration in its largest unit."""
    for unit, size in (("h", 3600.0), ("m", 60.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:g}{unit}"
    return f"{seconds * 1000:g}ms"
