"""What was seen so far, on disk, so that a run that was stopped goes on: an SQLite file beside the table to be."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, InputError, printable
from fer_edge.tagging.worker import Looked
from fer_edge.utils.atomic_file import ensure_writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge.tagging.input.sources import Source

THUMBNAILS: Final = 60  # kept of each emotion
_COMMIT_S: Final = 1.0
_TABLES: Final = ("made", "looked", "thumbnails", "sequence")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS made (options TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS looked (
    key BLOB PRIMARY KEY, path BLOB NOT NULL, video INTEGER NOT NULL, stamp TEXT NOT NULL, seen BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS thumbnails (
    emotion TEXT NOT NULL, draw INTEGER NOT NULL, jpeg BLOB NOT NULL, PRIMARY KEY (emotion, draw)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sequence (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
DELETE FROM sequence;
"""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a table is made of and with; two halves of one table must agree in it.

    Attributes:
        model: name of the model and its file's hash.
        version: of fer-edge.
        options: all options that change what is in the table.
        inputs: a hash of what is looked at, as it was given.
    """

    model: str
    version: str
    options: str
    inputs: str


class Journal:
    """What was seen in each source, and the order in which they come."""

    def __init__(self, path: Path, made: Made, *, anew: bool = False) -> None:
        """Begin, or go on.

        Args:
            path: the file.
            made: with what the table is made.
            anew: whether to forget what is in the file, unless another run is writing it.

        Raises:
            InputError: it was begun with something else, another run is writing it, or it is damaged.
            FerEdgeError: it cannot be written.
        """
        self.path = path
        is_new = not path.exists()
        if is_new:
            ensure_writable(path)
        self._database = _connected(path)
        try:
            self._begin(made, anew=anew)
            self._commit()
        except BaseException as error:
            self._database.close()
            if is_new and isinstance(error, FerEdgeError):
                _remove(path)
            raise

    def _begin(self, made: Made, *, anew: bool) -> None:
        path = self.path
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            for name in _TABLES if anew else ():
                self._database.execute(f"DROP TABLE IF EXISTS {name}")
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            row = self._database.execute("SELECT options FROM made").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise InputError(f"{printable(str(path))}: another run is writing the same table") from error
            raise FerEdgeError(f"{printable(str(path))}: cannot be written ({error})") from error
        except sqlite3.DatabaseError as error:
            if anew:  # no run is writing what is damaged
                self._database.close()
                _remove(path)
                self._database = _connected(path)
                self._begin(made, anew=False)
                return
            raise InputError(
                f"{printable(str(path))}: not what fer-edge writes while it makes a table ({error});"
                " --overwrite starts again"
            ) from error
        if row is None:
            self._database.execute("INSERT INTO made VALUES (?)", (msgspec.json.encode(made).decode(),))
        else:
            _refuse_other(path, msgspec.json.decode(row[0], type=Made), made)

    def known(self, source: Source) -> bool:
        """Put a source next in the order, and say whether what was seen in it is known, or will be: it came before."""
        key = source.key
        with self._errors():
            if not self._database.execute("INSERT OR IGNORE INTO sequence (key) VALUES (?)", (key,)).rowcount:
                return True
            row = self._database.execute("SELECT stamp FROM looked WHERE key = ?", (key,)).fetchone()
        self._commit_when_due()
        return bool(row and row[0] == source.stamp)

    def add(self, source: Source, looked: Looked) -> None:
        """Keep what was seen in a source."""
        key = source.key
        bare = msgspec.structs.replace(looked, thumbnails=())
        row = (key, os.fsencode(source.path), source.kind == "video", source.stamp, msgspec.msgpack.encode(bare))
        with self._errors():
            self._database.execute("INSERT OR REPLACE INTO looked VALUES (?, ?, ?, ?, ?)", row)
            faces = [sighting.face for sighting in looked.sightings if sighting.face]
            for number, (face, jpeg) in enumerate(zip(faces, looked.thumbnails, strict=False)):
                # Those whose draw is lowest are kept: the same of all faces, in whatever order they come.
                draw = int.from_bytes(hashlib.sha256(key + number.to_bytes(4)).digest()[:7])
                self._database.execute("INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", (face.emotion, draw, jpeg))
                self._database.execute(
                    "DELETE FROM thumbnails WHERE emotion = ?1 AND draw >="
                    " (SELECT draw FROM thumbnails WHERE emotion = ?1 ORDER BY draw LIMIT 1 OFFSET ?2)",
                    (face.emotion, THUMBNAILS),
                )
        self._commit_when_due()

    def is_empty(self) -> bool:
        """Whether nothing was put into the order."""
        return self._database.execute("SELECT 1 FROM sequence LIMIT 1").fetchone() is None

    def looked(self) -> Iterator[tuple[str, bool, Looked]]:
        """The path of each source in its order, whether it is of a video, and what was seen."""
        self._commit()
        decoder = msgspec.msgpack.Decoder(Looked)
        rows = self._database.execute("SELECT path, video, seen FROM sequence JOIN looked USING (key) ORDER BY number")
        for path, video, seen in rows:
            yield os.fsdecode(path), bool(video), decoder.decode(seen)

    def thumbnails(self, emotion: str) -> list[bytes]:
        """JPEGs of some faces with that emotion, drawn at random, but the same every time."""
        rows = self._database.execute("SELECT jpeg FROM thumbnails WHERE emotion = ? ORDER BY draw", (emotion,))
        return [jpeg for (jpeg,) in rows]

    def close(self) -> None:
        """Let go of it; the same command goes on with it."""
        with suppress(sqlite3.Error):
            self._database.execute("COMMIT")
        self._database.close()

    def remove(self) -> None:
        """Take it away, when the table is done."""
        self._database.close()
        _remove(self.path)

    def _commit_when_due(self) -> None:
        if time.monotonic() - self._committed > _COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        with self._errors():
            self._database.execute("COMMIT")
            self._database.execute("BEGIN")
        self._committed = time.monotonic()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FerEdgeError(
                f"{printable(str(self.path))}: cannot be written ({error}); the same command goes on when it can"
            ) from error


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=1.0, isolation_level=None)


def _remove(path: Path) -> None:
    """Take away the journal at a path, if there is one, and what SQLite left beside it."""
    for name in (f"{path.name}-journal", path.name):
        path.with_name(name).unlink(missing_ok=True)


def _only(these: str, others: str) -> str:
    """Of some options, or of one thing, what is not among others."""
    return ", ".join(one for one in these.split(", ") if one not in others.split(", ")) or "none"


def _refuse_other(path: Path, before: Made, now: Made) -> None:
    for name, what in (
        ("model", "the model"),
        ("version", "fer-edge"),
        ("options", "the options"),
        ("inputs", "the images to look at"),
    ):
        was, given = getattr(before, name), getattr(now, name)
        if was != given:
            detail = "others now" if name == "inputs" else f"{_only(was, given)} before, {_only(given, was)} now"
            raise InputError(
                f"{printable(str(path))}: the table was begun otherwise; {what}: {detail};"
                " go on as it was begun, or start again with --overwrite"
            )
