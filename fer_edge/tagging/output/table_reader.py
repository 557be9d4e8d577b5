"""Read tables of faces in every format, row by row."""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError, first_line, printable
from fer_edge.geometry import Box
from fer_edge.quality import UNCLEAR
from fer_edge.tagging.output import parquet_dataset
from fer_edge.tagging.output.csv_cells import unguard_cell
from fer_edge.utils.address_space import bounded_address_space
from fer_edge.utils.bounded_file import csv_rows, open_regular, open_table
from fer_edge.utils.limits import LABELS, TABLE_ROW_BYTES, TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

_COLUMNS: Final = (
    *("path", "time", "x", "y", "width", "height", "emotion", "score", "error", "model", "model_sha256", "track"),
    "reliable",
)
_SCORE: Final = "score_"  # begins the name of a column with the score of a label
_BATCH_ROWS: Final = 10_000
_MAX_NUMBER: Final = 1e9  # seconds or pixels


_Row: TypeAlias = tuple[tuple[Any, ...], tuple[str, ...]]  # the values of `_COLUMNS`, and the labels of the model


class TableRow(NamedTuple):
    """The columns of a row that reports use.

    Attributes:
        path: the image, video, or archive and member.
        time: time within a video, in seconds; None for an image.
        box: the face, in pixels of the upright image; None if there is none.
        emotion: label with the highest score, or ``unclear`` if it is not reliable; empty if there is no face.
        score: the highest score, 0..1.
        error: what went wrong; empty if nothing did.
        model: name of the model, and the start of its file's hash.
        track: number of the face within its video; None for an image.
        labels: every label of the model.
    """

    path: str
    time: float | None
    box: Box | None
    emotion: str
    score: float
    error: str
    model: str
    track: int | None = None
    labels: tuple[str, ...] = ()


def read_table(table: Path) -> Generator[TableRow]:
    """Yield the rows of a table.

    Args:
        table: a ``.csv``, ``.jsonl``, ``.parquet`` or ``.sqlite`` file, or a folder of Parquet files.

    Raises:
        InputError: the table does not exist, or `fer-edge tag` did not write it.
        MissingExtraError: pyarrow is not installed.
    """
    ending = ".parquet" if table.is_dir() else table.suffix.lower()
    name = printable(str(table))
    if ending not in _READERS:
        raise InputError(f"{name}: not a table that `fer-edge tag` writes; those end in {', '.join(_READERS)}")
    if not table.exists():
        raise InputError(f"{name}: no such file")
    if table.is_dir() and not parquet_dataset.list_parts(f"{table}/"):
        raise InputError(f"{name}: a folder without parts of a table, such as faces-000000.parquet")
    number = 0
    try:
        for number, (values, labels) in enumerate(_READERS[ending](table), 1):  # noqa: B007 - for the errors below
            yield _make_row(values, labels)
    except KeyError as error:
        raise InputError(f"{name}: has no column {error}; `fer-edge tag` did not write it") from error
    except FerEdgeError:
        raise
    except MemoryError as error:
        raise InputError(f"{name}: refused, what follows {number} rows takes too much memory") from error
    except Exception as error:  # each format has its own errors for damaged files
        raise InputError(f"{name}: not what `fer-edge tag` wrote, after {number} rows ({first_line(error)})") from error


def _make_row(values: tuple[Any, ...], labels: tuple[str, ...]) -> TableRow:
    path, time, x, y, width, height, emotion, score, error, model, digest, track, reliable = values
    if len(labels) > LABELS:
        raise ValueError(f"{len(labels)} emotions, where a model has {LABELS} at most")
    for text in (path, emotion or "", error or "", model, digest, *labels):
        if not isinstance(text, str) or len(text) > TEXT_BYTES:
            raise ValueError(f"a value of type {type(text).__name__} where a text should be, or a long one")
    return TableRow(
        path,
        _number(time) if time not in {None, ""} else None,
        Box(*map(_number, (x, y, width, height))) if emotion else None,
        (emotion if _number(reliable) else UNCLEAR) if emotion else "",
        _number(score) if emotion else 0.0,
        error or "",
        f"{model} ({digest[:12]})",
        int(_number(track)) if track not in {None, ""} else None,
        labels,
    )


def _number(value: Any) -> float:  # noqa: ANN401 - a table may hold anything
    number = float(value)
    if not -_MAX_NUMBER <= number <= _MAX_NUMBER:
        raise ValueError(f"{value} where a number should be")
    return number


def _csv(table: Path) -> Iterator[_Row]:
    with open_table(table, "surrogateescape") as lines:
        rows = csv_rows(lines)
        head = next(rows, [])
        positions, labels = _positions(head), _labels(head)
        for row in rows:
            yield tuple([unguard_cell(row[position]) for position in positions]), labels
    with open_regular(table) as whole:
        whole.seek(-1, os.SEEK_END)
        if whole.read() != b"\n":
            raise ValueError("the last one is incomplete")


def _positions(head: list[str]) -> list[int]:
    """Return the positions of the columns in use.

    Raises:
        KeyError: a column is missing.
    """
    known = {name: position for position, name in enumerate(head)}
    return [known[name] for name in _COLUMNS]


def _labels(head: list[str]) -> tuple[str, ...]:
    return tuple(name.removeprefix(_SCORE) for name in head if name.startswith(_SCORE))


def _json_lines(table: Path) -> Iterator[_Row]:
    with open_table(table) as lines:
        for line in lines:
            lines.row_bytes = 0
            row = json.loads(line)
            box = row["box"] or (None,) * 4
            yield (row["path"], row["time"], *box, *[row[name] for name in _COLUMNS[6:]]), tuple(row["scores"] or ())


def _sqlite(table: Path) -> Iterator[_Row]:
    open_regular(table).close()
    with closing(sqlite3.connect(f"{table.absolute().as_uri()}?mode=ro", uri=True)) as database:
        # A view or a virtual table may calculate for ever; what is calculated may be as long as it likes.
        kinds = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'faces'").fetchall()
        if any(not str(sql).upper().startswith("CREATE TABLE ") for (sql,) in kinds):
            raise ValueError("faces is not a table")
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TABLE_ROW_BYTES)
        head = [column for _, column, *_ in database.execute("PRAGMA table_info(faces)")]
        _positions(head)
        labels = _labels(head)
        for path, *others in database.execute(f"SELECT {', '.join(_COLUMNS)} FROM faces"):  # noqa: S608 - constants
            yield (os.fsdecode(path), *others), labels


def _parquet(table: Path) -> Iterator[_Row]:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    for name in sorted(parquet_dataset.list_parts(f"{table}/")) if table.is_dir() else [str(table)]:
        open_regular(Path(name)).close()
        with bounded_address_space():
            file = parquet.ParquetFile(name)
        with file:
            _positions(file.schema_arrow.names)
            labels = _labels(file.schema_arrow.names)
            batches = file.iter_batches(_BATCH_ROWS, columns=[*_COLUMNS, "path_bytes"], use_threads=False)
            while True:
                with bounded_address_space():  # a page may be packed to a thousandth
                    batch = next(batches, None)
                    if batch is None:
                        break
                    columns = batch.to_pydict()
                paths = map(_decode_path, columns["path"], columns["path_bytes"])
                for values in zip(paths, *[columns[name] for name in _COLUMNS[1:]], strict=True):
                    yield values, labels


def _decode_path(text: str, raw: bytes | None) -> str:
    return os.fsdecode(raw) if raw else text


_READERS: Final[dict[str, Callable[[Path], Iterable[_Row]]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
    ".sqlite": _sqlite,
}
