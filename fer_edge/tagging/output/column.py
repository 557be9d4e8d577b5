"""A column of a table, as writers and the manual know it."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its name.
        kind: type of its values.
        meaning: what they are, and when they are empty.
        unit: unit or range of its values, in words; empty if they have none.
    """

    name: str
    kind: type
    meaning: str
    unit: str = ""
