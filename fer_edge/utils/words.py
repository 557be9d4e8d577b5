"""Wording that messages share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: ``1 image``, ``2 images``.

    Args:
        number: how many.
        noun: the singular.
        plural: the plural, where it is not the singular with an ``s``.
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return words as a list in a sentence: ``a``, ``a and b``, ``a, b and c``.

    Args:
        words: one at least.
        last: the word before the last one.
    """
    *before, end = words
    return f"{', '.join(before)} {last} {end}" if before else end


def megabytes(size: int) -> str:
    """Return a number of bytes in words, such as ``134 MB`` or ``262 kB``."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
