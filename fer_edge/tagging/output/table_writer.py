"""Tables of faces, of four kinds, with the same columns in each.

==================  ================================================================================================
column              what it says
==================  ================================================================================================
path                the image, video, or archive and member; bytes that are no UTF-8 are kept (see each kind)
time                of a frame of a video, in seconds
track               of a video: faces with one number are one face that was followed; counts from 1 within a video
x y width height    the face, in pixels of the upright image; ``box`` in JSON Lines
emotion score       the highest score, 0..1, and whose it is
score_<label>       the score of each label, 0..1; ``scores`` in JSON Lines
detector_score      the detector's own measure; comparable only within one detector
sha256              of the file, with ``--sha256``
error               what went wrong; the other columns are empty then
model               name of the model
model_sha256        of its file
version             of fer-edge
==================  ================================================================================================
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError, printable
from fer_edge.tagging.input import remote
from fer_edge.tagging.worker import Sighting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fer_edge.geometry import Box

_ROWS_TOGETHER: Final = 10_000


class Maker(msgspec.Struct, frozen=True, kw_only=True):
    """What a table was made with; each row says it.

    Attributes:
        labels: of the model, in order.
        model: its name.
        model_sha256: of its file.
        version: of fer-edge.
    """

    labels: tuple[str, ...]
    model: str
    model_sha256: str
    version: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row: one face, an image or frame without one, or an error.

    Attributes:
        path: the image or video, or the archive and the member.
        sighting: what was seen.
        track: number of the face within a video; None elsewhere.
        sha256: of the file.
    """

    path: str
    sighting: Sighting
    track: int | None = None
    sha256: str | None = None


class _Writer(Protocol):
    def append(self, row: Row) -> None: ...


def check(out: str) -> None:
    """Refuse a table of an unknown kind, and one whose package is not installed.

    Raises:
        InputError: the ending is none that is known.
        MissingExtraError: pyarrow is not installed.
    """
    ending = ".parquet" if out.endswith("/") else _ending(out)
    if ending not in _WRITERS:
        raise InputError(f"{printable(remote.shown(out))}: unknown kind of table; end it in {', '.join(_WRITERS)} or /")
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise MissingExtraError("pyarrow", "parquet")


def writing(path: Path, maker: Maker) -> AbstractContextManager[_Writer]:
    """A writer of the kind that the ending of a file says."""
    return _WRITERS[_ending(path.name)](path, maker)


def columns(labels: tuple[str, ...]) -> dict[str, type]:
    """The columns of a table and what is in them; all but the path may be empty."""
    return {
        "path": str,
        "time": float,
        "track": int,
        **dict.fromkeys(("x", "y", "width", "height"), float),
        "emotion": str,
        "score": float,
        **{f"score_{label}": float for label in labels},
        "detector_score": float,
        "sha256": str,
        "error": str,
        "model": str,
        "model_sha256": str,
        "version": str,
    }


def _values(row: Row, maker: Maker) -> tuple[object, ...]:
    """What is in a row, in the order of the columns."""
    seen, face = row.sighting, row.sighting.face
    box: Box | tuple[None, ...] = face.box if face else (None,) * 4
    return (
        row.path,
        seen.time,
        row.track,
        *box,
        face.emotion if face else None,
        face.score if face else None,
        *(face.scores.values() if face else (None,) * len(maker.labels)),
        seen.detector_score,
        row.sha256,
        seen.error or None,
        maker.model,
        maker.model_sha256,
        maker.version,
    )


class _JsonLines:
    """Bytes of a path that are no UTF-8 are lone surrogates, as Python writes and reads them."""

    def __init__(self, write: Callable[[str], object], maker: Maker) -> None:
        self._write, self._maker = write, maker

    def append(self, row: Row) -> None:
        seen, face, maker = row.sighting, row.sighting.face, self._maker
        fields = {
            "path": row.path,
            "time": seen.time,
            "track": row.track,
            "box": face.box if face else None,
            "emotion": face.emotion if face else None,
            "score": face.score if face else None,
            "scores": face.scores if face else None,
            "detector_score": seen.detector_score,
            "sha256": row.sha256,
            "error": seen.error or None,
            "model": maker.model,
            "model_sha256": maker.model_sha256,
            "version": maker.version,
        }
        self._write(json.dumps(fields) + "\n")


@contextmanager
def _json_lines(path: Path, maker: Maker) -> Iterator[_JsonLines]:
    with path.open("w", encoding="ascii") as file:
        yield _JsonLines(file.write, maker)


class _Batched:
    """Rows that are written some thousand at a time."""

    def __init__(self, write: Callable[[list[tuple[Any, ...]]], object], maker: Maker) -> None:
        self._write, self._maker = write, maker
        self._rows: list[tuple[Any, ...]] = []

    def append(self, row: Row) -> None:
        self._rows.append(_values(row, self._maker))
        if len(self._rows) == _ROWS_TOGETHER:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._write(self._rows)
            self._rows = []


@contextmanager
def _csv(path: Path, maker: Maker) -> Iterator[_Batched]:
    """Bytes of a path that are no UTF-8 are in it as they are."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(columns(maker.labels))
        rows = _Batched(writer.writerows, maker)
        yield rows
        rows.flush()


@contextmanager
def _sqlite(path: Path, maker: Maker) -> Iterator[_Batched]:
    """The table is ``faces``; a path that is no UTF-8 is a BLOB there."""
    kinds = {str: "TEXT", int: "INTEGER", float: "REAL"}
    given = columns(maker.labels)
    named = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {kinds[kind]}' for name, kind in given.items())
    try:
        database = sqlite3.connect(path)
        try:
            database.execute(f"CREATE TABLE faces ({named})")
            insert = f"INSERT INTO faces VALUES ({', '.join('?' * len(given))})"  # noqa: S608 - question marks
            rows = _Batched(
                lambda some: database.executemany(insert, ((_text(row[0]), *row[1:]) for row in some)), maker
            )
            yield rows
            rows.flush()
            database.commit()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise FerEdgeError(f"{printable(str(path))}: cannot be written ({error})") from error


@contextmanager
def _parquet(path: Path, maker: Maker) -> Iterator[_Batched]:
    """A path that is no UTF-8 has escapes in ``path``, and is whole in one more column, ``path_bytes``."""
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - likewise

    kinds = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    given = columns(maker.labels)
    fields = [pa.field(name, kinds[kind], nullable=name != "path") for name, kind in given.items()]
    schema = pa.schema(fields).append(pa.field("path_bytes", pa.binary()))
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def write(some: list[tuple[Any, ...]]) -> None:
            odd = [None if isinstance(_text(row[0]), str) else os.fsencode(row[0]) for row in some]
            named = [(printable(row[0]), *row[1:], raw) for row, raw in zip(some, odd, strict=True)]
            arrays = [
                pa.array(column, field.type) for column, field in zip(zip(*named, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

        rows = _Batched(write, maker)
        yield rows
        rows.flush()


def _text(path: str) -> str | bytes:
    """A path as text where it is UTF-8, else as bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - it may be an address


_WRITERS: Final[dict[str, Callable[[Path, Maker], AbstractContextManager[_Writer]]]] = {
    ".jsonl": _json_lines,
    ".csv": _csv,
    ".parquet": _parquet,
    ".sqlite": _sqlite,
}
