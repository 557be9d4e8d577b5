"""Write tables of faces in four formats; see `fer_edge.tagging.output.columns` for their columns."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError, printable
from fer_edge.tagging.input import remote
from fer_edge.tagging.output.columns import FaceRow, Provenance, column_types, column_values, json_fields
from fer_edge.tagging.output.csv_cells import guard_cell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_BATCH_ROWS: Final = 10_000


class _TableWriter(Protocol):
    def append(self, row: FaceRow) -> None: ...


def check_table_path(table: str) -> None:
    """Check that a table can be written in the format that its name asks for.

    Args:
        table: path or address of the table.

    Raises:
        InputError: the ending is unknown.
        MissingExtraError: pyarrow is not installed.
    """
    ending = ".parquet" if table.endswith("/") else _ending(table)
    if ending not in _WRITERS:
        raise InputError(
            f"{printable(remote.without_secrets(table))}: unknown kind of table; end it in {', '.join(_WRITERS)} or /"
        )
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")


def check_columns(table: str, provenance: Provenance) -> None:
    """Check that the labels of the model can be columns of the table, before the work begins.

    Raises:
        InputError: they cannot: SQLite, for example, does not tell upper from lower case.
    """
    if _ending(table) != ".sqlite":
        return
    with closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute(_create_statement(provenance))
        except (sqlite3.Error, UnicodeEncodeError) as error:
            raise InputError(
                f"{printable(remote.without_secrets(table))}: SQLite cannot have columns for the model's labels"
                f" {printable(', '.join(provenance.labels))} ({error}); choose another kind of table, or change"
                " the labels with `fer-edge card set`"
            ) from error


def open_table(path: Path, provenance: Provenance) -> AbstractContextManager[_TableWriter]:
    """Open a table for writing, in the format that the ending of its name asks for."""
    return _WRITERS[_ending(path.name)](path, provenance)


class _JsonLines:
    """Writes bytes of a path that are not UTF-8 as lone surrogates, as Python does."""

    def __init__(self, write: Callable[[str], object], provenance: Provenance) -> None:
        self._write, self._provenance = write, provenance

    def append(self, row: FaceRow) -> None:
        self._write(json.dumps(json_fields(row, self._provenance)) + "\n")


@contextmanager
def _json_lines(path: Path, provenance: Provenance) -> Iterator[_JsonLines]:
    with path.open("w", encoding="ascii") as file:
        yield _JsonLines(file.write, provenance)


class _Batches:
    """Collects rows and writes some thousand at a time."""

    def __init__(self, write: Callable[[list[tuple[Any, ...]]], object], provenance: Provenance) -> None:
        self._write, self._provenance = write, provenance
        self._rows: list[tuple[Any, ...]] = []

    def append(self, row: FaceRow) -> None:
        self._rows.append(column_values(row, self._provenance))
        if len(self._rows) == _BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._write(self._rows)
            self._rows = []


@contextmanager
def _csv(path: Path, provenance: Provenance) -> Iterator[_Batches]:
    """Write CSV; bytes of a path that are not UTF-8 stay as they are, and no text looks like a formula."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(column_types(provenance.labels))
        batches = _Batches(lambda rows: writer.writerows(map(guard_cell, row) for row in rows), provenance)
        yield batches
        batches.flush()


@contextmanager
def _sqlite(path: Path, provenance: Provenance) -> Iterator[_Batches]:
    """Write the table ``faces`` of an SQLite file; a path that is not UTF-8 is a BLOB."""
    columns = column_types(provenance.labels)
    try:
        database = sqlite3.connect(path)
        try:
            database.execute(_create_statement(provenance))
            insert = f"INSERT INTO faces VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - question marks
            batches = _Batches(
                lambda rows: database.executemany(insert, ((_text_or_bytes(row[0]), *row[1:]) for row in rows)),
                provenance,
            )
            yield batches
            batches.flush()
            database.commit()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise FerEdgeError(f"{printable(str(path))}: cannot be written ({error})") from error


def _create_statement(provenance: Provenance) -> str:
    sql_types = {str: "TEXT", int: "INTEGER", float: "REAL"}
    columns = column_types(provenance.labels).items()
    definition = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {sql_types[kind]}' for name, kind in columns)
    return f"CREATE TABLE faces ({definition})"


@contextmanager
def _parquet(path: Path, provenance: Provenance) -> Iterator[_Batches]:
    """Write Parquet; a path that is not UTF-8 is escaped in ``path`` and complete in the column ``path_bytes``."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    arrow_types = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    columns = column_types(provenance.labels)
    fields = [pa.field(name, arrow_types[kind], nullable=name != "path") for name, kind in columns.items()]
    schema = pa.schema(fields).append(pa.field("path_bytes", pa.binary()))
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(rows: list[tuple[Any, ...]]) -> None:
            raw_paths = [None if isinstance(_text_or_bytes(row[0]), str) else os.fsencode(row[0]) for row in rows]
            full_rows = [(printable(row[0]), *row[1:], raw) for row, raw in zip(rows, raw_paths, strict=True)]
            arrays = [
                pa.array(column, field.type) for column, field in zip(zip(*full_rows, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

        batches = _Batches(write, provenance)
        yield batches
        batches.flush()


def _text_or_bytes(path: str) -> str | bytes:
    """Return a path as text if it is UTF-8, otherwise as bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - it may be an address


_WRITERS: Final[dict[str, Callable[[Path, Provenance], AbstractContextManager[_TableWriter]]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
    ".sqlite": _sqlite,
}
