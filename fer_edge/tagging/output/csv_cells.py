"""Texts in the cells of a CSV that spreadsheets would run as formulas.

A text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return gets an apostrophe before it, as OWASP
advises ("CSV Injection"). So does one that has apostrophes before such a character, so that `unguard_cell` gives every
text back. Numbers stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

_FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")


def guard_cell(value: object) -> object:
    """Return the value of a cell; a text that looks like a formula gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unguard_cell(text: str) -> str:
    """Return the text that `guard_cell` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
