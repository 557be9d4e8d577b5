"""The tables of columns that `fer-edge tag` and `fer-edge history` write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.tagging.output.columns import table_columns
from fer_edge_device.history.export import event_columns, period_columns
from reference_tables.markdown import code, prose, table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fer_edge.tagging.output.column import Column

_ANY_LABEL: Final = ("LABEL",)
_KINDS: Final = {str: "text", int: "whole number", float: "number"}


def faces_table() -> str:
    """Return the columns of a table of faces."""
    return _table(table_columns(_ANY_LABEL))


def periods_table() -> str:
    """Return the columns of a history by periods."""
    return _table(period_columns(_ANY_LABEL))


def events_table() -> str:
    """Return the columns of the events of a history."""
    return _table(event_columns(_ANY_LABEL))


def _table(columns: Iterable[Column]) -> str:
    rows = [
        (code(column.name), ", ".join(filter(None, (_KINDS[column.kind], column.unit))), prose(column.meaning))
        for column in columns
    ]
    return table(("column", "value", "meaning"), rows)
