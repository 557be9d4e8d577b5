"""Write Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CODE: Final = re.compile(r"(``?)(.+?)\1")
_SPECIAL: Final = re.compile(r"[\\*_<\[|&]")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table whose cells are Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def code(text: str) -> str:
    """Return a text in the type of code; nothing for an empty one."""
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Return a text of the program as Markdown: what stands in backquotes is code, and nothing else has a meaning."""
    parts = []
    end = 0
    for found in _CODE.finditer(text):
        parts += [_escape(text[end : found.start()]), code(found[2])]
        end = found.end()
    return "".join((*parts, _escape(text[end:])))


def lines(*parts: str) -> str:
    """Return what stands in the lines of a cell; empty ones are left out."""
    return "<br>".join(filter(None, parts))


def choices(values: Iterable[object]) -> str:
    """Return the values between which one chooses."""
    return ", ".join(code(str(value)) for value in values)


def bounds(kind: str, lower: float | None, upper: float | None, above: float | None = None) -> str:
    """Return the kind of a number with its bounds.

    Args:
        kind: what to call the number.
        lower: the lowest value; None for any.
        upper: the highest value; None for any.
        above: the value that it must exceed; None for any.
    """
    if lower is not None and upper is not None:
        return f"{kind}, {lower:,.10g} to {upper:,.10g}"
    limits = ((above, "above"), (lower, "at least"), (upper, "at most"))
    return ", ".join([kind, *(f"{words} {limit:,.10g}" for limit, words in limits if limit is not None)])


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
