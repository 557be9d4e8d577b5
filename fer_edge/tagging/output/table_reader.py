"""Reading the tables that tagging writes, of every kind, row by row."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fer_edge.errors import InputError, MissingExtraError, first_line, printable
from fer_edge.geometry import Box
from fer_edge.tagging.output import parquet_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

_COLUMNS: Final = ("path", "time", "x", "y", "width", "height", "emotion", "score", "error", "model", "model_sha256")
_ROWS_TOGETHER: Final = 10_000


class Entry(NamedTuple):
    """What a row says.

    Attributes:
        path: the image, video, or archive and member.
        time: within a video, in seconds.
        box: the face, in pixels of the upright image.
        emotion: that scored highest; empty where there is no face.
        score: of that, 0..1.
        error: what went wrong; empty where nothing did.
        model: name of the model and the beginning of its file's hash.
    """

    path: str
    time: float | None
    box: Box | None
    emotion: str
    score: float
    error: str
    model: str


def read(table: Path) -> Generator[Entry]:
    """The rows of a table.

    Args:
        table: a ``.csv``, ``.jsonl``, ``.parquet`` or ``.sqlite`` file, or a folder of Parquet parquet_dataset.

    Raises:
        InputError: it is not there, or not what `fer-edge tag` wrote.
        MissingExtraError: pyarrow is not installed.
    """
    kind = ".parquet" if table.is_dir() else table.suffix.lower()
    shown = printable(str(table))
    if kind not in _READERS:
        raise InputError(f"{shown}: no table that `fer-edge tag` writes; those end in {', '.join(_READERS)}")
    if not table.exists():
        raise InputError(f"{shown}: no such file")
    if table.is_dir() and not parquet_dataset.there(f"{table}/"):
        raise InputError(f"{shown}: a folder without parts of a table, faces-000000.parquet and so on")
    number = 0
    try:
        for number, values in enumerate(_READERS[kind](table), 1):  # noqa: B007 - said when one is wrong
            yield _entry(values)
    except KeyError as error:
        raise InputError(f"{shown}: has no column {error}; it is not what `fer-edge tag` wrote") from error
    except (ValueError, TypeError, IndexError, csv.Error, sqlite3.Error, OSError) as error:
        raise InputError(
            f"{shown}: not what `fer-edge tag` wrote, after {number} rows ({first_line(error)})"
        ) from error


def _entry(values: tuple[Any, ...]) -> Entry:
    path, time, x, y, width, height, emotion, score, error, model, digest = values
    return Entry(
        path,
        _number(time) if time not in {None, ""} else None,
        Box(*map(_number, (x, y, width, height))) if emotion else None,
        emotion or "",
        _number(score) if emotion else 0.0,
        error or "",
        f"{model} ({digest[:12]})",
    )


def _number(value: Any) -> float:  # noqa: ANN401 - whatever a table holds
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} where a number should be")
    return number


def _csv(table: Path) -> Iterator[tuple[str, ...]]:
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        places = _places(next(rows, []))
        for row in rows:
            yield tuple([row[place] for place in places])
    with table.open("rb") as whole:
        whole.seek(-1, os.SEEK_END)
        if whole.read() != b"\n":
            raise ValueError("cut off in the last one")


def _places(head: list[str]) -> list[int]:
    """Where our columns are; raises KeyError."""
    known = {name: place for place, name in enumerate(head)}
    return [known[name] for name in _COLUMNS]


def _json_lines(table: Path) -> Iterator[tuple[object, ...]]:
    with table.open(encoding="ascii") as file:
        for line in file:
            row = json.loads(line)
            box = row["box"] or (None,) * 4
            yield (row["path"], row["time"], *box, *[row[name] for name in _COLUMNS[6:]])


def _sqlite(table: Path) -> Iterator[tuple[object, ...]]:
    with closing(sqlite3.connect(f"{table.absolute().as_uri()}?mode=ro", uri=True)) as database:
        head = [column for _, column, *_ in database.execute("PRAGMA table_info(faces)")]
        _places(head)
        for path, *others in database.execute(f"SELECT {', '.join(_COLUMNS)} FROM faces"):  # noqa: S608 - our own names
            yield (os.fsdecode(path), *others)


def _parquet(table: Path) -> Iterator[tuple[object, ...]]:
    if importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    for file in sorted(parquet_dataset.there(f"{table}/")) if table.is_dir() else [str(table)]:
        with parquet.ParquetFile(file) as opened:
            _places(opened.schema_arrow.names)
            for batch in opened.iter_batches(_ROWS_TOGETHER, columns=[*_COLUMNS, "path_bytes"]):
                columns = batch.to_pydict()
                paths = map(_path, columns["path"], columns["path_bytes"])
                yield from zip(paths, *[columns[name] for name in _COLUMNS[1:]], strict=True)


def _path(text: str, raw: bytes | None) -> str:
    return os.fsdecode(raw) if raw else text


_READERS: Final[dict[str, Callable[[Path], Iterable[tuple[Any, ...]]]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
    ".sqlite": _sqlite,
}
