"""Keep results on disk until the table is complete, so that an interrupted run can continue.

The journal is an SQLite file beside the table.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, InputError, printable
from fer_edge.tagging.records import Candidate, SourceResult
from fer_edge.utils.atomic_file import ensure_writable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fer_edge.tagging.input.source import Source

MAX_THUMBNAILS: Final = 60  # of each emotion
MAX_CANDIDATES: Final = 200  # of each emotion and kind
_COMMIT_S: Final = 1.0
_TABLES: Final = ("run_key", "results", "thumbnails", "candidates", "sequence")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS run_key (content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    key BLOB PRIMARY KEY, path BLOB NOT NULL, video INTEGER NOT NULL, fingerprint TEXT NOT NULL, result BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS thumbnails (
    emotion TEXT NOT NULL, draw INTEGER NOT NULL, jpeg BLOB NOT NULL, PRIMARY KEY (emotion, draw)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS candidates (
    kind TEXT NOT NULL, draw INTEGER NOT NULL, candidate BLOB NOT NULL, PRIMARY KEY (kind, draw)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sequence (number INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE);
DELETE FROM sequence;
"""


class RunKey(msgspec.Struct, frozen=True, kw_only=True):
    """What must be equal for a run to continue an earlier one.

    Attributes:
        model: name of the model, and hash of its file.
        version: version of fer-edge.
        options: all options that change the content of the table.
        inputs: hash of the inputs as they were given.
    """

    model: str
    version: str
    options: str
    inputs: str


class Journal:
    """The result of each source, and the order of the sources."""

    def __init__(self, path: Path, run_key: RunKey, *, overwrite: bool = False) -> None:
        """Create a journal, or open the one of an interrupted run.

        Args:
            path: the file.
            run_key: what the run must share with the interrupted one.
            overwrite: whether to discard the results of an interrupted run; never those of a run in progress.

        Raises:
            InputError: the interrupted run had another key, another run is writing the journal, or it is damaged.
            FerEdgeError: the file cannot be written.
        """
        self.path = path
        is_new = not path.exists()
        if is_new:
            ensure_writable(path)
        self._database = _connect(path)
        try:
            self._open(run_key, overwrite=overwrite)
            self._commit()
        except BaseException as error:
            self._database.close()
            if is_new and isinstance(error, FerEdgeError):
                _delete(path)
            raise

    def _open(self, run_key: RunKey, *, overwrite: bool) -> None:
        path = self.path
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("BEGIN EXCLUSIVE")
            for name in _TABLES if overwrite else ():
                self._database.execute(f"DROP TABLE IF EXISTS {name}")
            for statement in _SCHEMA.split(";"):
                self._database.execute(statement)
            row = self._database.execute("SELECT content FROM run_key").fetchone()
            previous = msgspec.json.decode(str(row[0]), type=RunKey) if row else None
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise InputError(f"{printable(str(path))}: another run is writing the same table") from error
            raise FerEdgeError(f"{printable(str(path))}: cannot be written ({error})") from error
        except (sqlite3.DatabaseError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            if overwrite:  # no run is writing a damaged file
                self._database.close()
                _delete(path)
                self._database = _connect(path)
                self._open(run_key, overwrite=False)
                return
            raise InputError(
                f"{printable(str(path))}: not a file of an interrupted run, or damaged ({error});"
                " --overwrite starts again"
            ) from error
        self._continues = previous is not None
        if previous is None:
            self._database.execute("INSERT INTO run_key VALUES (?)", (msgspec.json.encode(run_key).decode(),))
        else:
            _check_same_run(path, previous, run_key)

    def append(self, source: Source) -> bool:
        """Put a source next in the order of the table.

        Returns:
            Whether the source still has to be processed: it has no result yet, or changed since, and did not come
            before in the order.
        """
        key = source.key
        with self._as_fer_edge_error():
            if not self._database.execute("INSERT OR IGNORE INTO sequence (key) VALUES (?)", (key,)).rowcount:
                return False
            row = None
            if self._continues:
                row = self._database.execute("SELECT fingerprint FROM results WHERE key = ?", (key,)).fetchone()
        self._commit_if_due()
        return not row or row[0] != source.fingerprint

    def store(self, source: Source, result: SourceResult) -> None:
        """Store the result of a source."""
        key = source.key
        encoded = msgspec.msgpack.encode(msgspec.structs.replace(result, thumbnails=(), candidates=()))
        row = (key, os.fsencode(source.path), source.kind == "video", source.fingerprint, encoded)
        with self._as_fer_edge_error():
            self._database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", row)
            faces = [record.face for record in result.records if record.face]
            for number, (face, jpeg) in enumerate(zip(faces, result.thumbnails, strict=False)):
                draw = _draw(key, number)
                self._database.execute(
                    "INSERT OR REPLACE INTO thumbnails VALUES (?, ?, ?)", (face.shown_emotion, draw, jpeg)
                )
                self._database.execute(
                    "DELETE FROM thumbnails WHERE emotion = ?1 AND draw >="
                    " (SELECT draw FROM thumbnails WHERE emotion = ?1 ORDER BY draw LIMIT 1 OFFSET ?2)",
                    (face.shown_emotion, MAX_THUMBNAILS),
                )
            for number, candidate in enumerate(result.candidates):
                kind = f"{candidate.face.reason if candidate.is_hard else ''} {candidate.face.emotion}"
                content = msgspec.msgpack.encode(candidate)
                self._database.execute(
                    "INSERT OR REPLACE INTO candidates VALUES (?, ?, ?)", (kind, _draw(key, number), content)
                )
                self._database.execute(
                    "DELETE FROM candidates WHERE kind = ?1 AND draw >="
                    " (SELECT draw FROM candidates WHERE kind = ?1 ORDER BY draw LIMIT 1 OFFSET ?2)",
                    (kind, MAX_CANDIDATES),
                )
        self._commit_if_due()

    def is_empty(self) -> bool:
        """Return whether the order contains no source."""
        return self._database.execute("SELECT 1 FROM sequence LIMIT 1").fetchone() is None

    def results(self) -> Iterator[tuple[str, bool, SourceResult]]:
        """Yield for each source, in order, its path, whether it is part of a video, and its result."""
        self._commit()
        decoder = msgspec.msgpack.Decoder(SourceResult)
        query = "SELECT path, video, result FROM sequence JOIN results USING (key) ORDER BY number"
        try:
            for path, video, result in self._database.execute(query):
                yield os.fsdecode(path), bool(video), decoder.decode(result)
        except (sqlite3.Error, msgspec.MsgspecError, TypeError) as error:
            raise InputError(f"{printable(str(self.path))}: damaged ({error}); --overwrite starts again") from error

    def thumbnails(self, emotion: str) -> list[bytes]:
        """Return JPEGs of a random choice of faces with an emotion, or ``unclear``; it is the same every time."""
        rows = self._database.execute("SELECT jpeg FROM thumbnails WHERE emotion = ? ORDER BY draw", (emotion,))
        return [jpeg for (jpeg,) in rows]

    def candidates(self) -> Iterator[tuple[str, Candidate]]:
        """Yield a random choice of faces that may be selected for review, each with a name; the same every time."""
        decoder = msgspec.msgpack.Decoder(Candidate)
        for draw, content in self._database.execute("SELECT draw, candidate FROM candidates ORDER BY draw"):
            yield f"{draw:014x}", decoder.decode(content)

    def close(self) -> None:
        """Close the file and keep it, so that the same command can continue."""
        with suppress(sqlite3.Error):
            self._database.execute("COMMIT")
        self._database.close()

    def delete(self) -> None:
        """Close and delete the file, once the table is complete."""
        self._database.close()
        _delete(self.path)

    def _commit_if_due(self) -> None:
        if time.monotonic() - self._committed > _COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        with self._as_fer_edge_error():
            self._database.execute("COMMIT")
            self._database.execute("BEGIN")
        self._committed = time.monotonic()

    @contextmanager
    def _as_fer_edge_error(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise FerEdgeError(
                f"{printable(str(self.path))}: cannot be written ({error}); when it can, the same command continues"
            ) from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=1.0, isolation_level=None)


def _draw(key: bytes, number: int) -> int:
    """Return a number that decides what is kept: a hash, so that the choice does not depend on the order of work."""
    return int.from_bytes(hashlib.sha256(key + number.to_bytes(4)).digest()[:7])


def _delete(path: Path) -> None:
    """Delete a journal, if there is one, and the file that SQLite keeps beside it."""
    for name in (f"{path.name}-journal", path.name):
        path.with_name(name).unlink(missing_ok=True)


def _check_same_run(path: Path, previous: RunKey, current: RunKey) -> None:
    for name, label in (("model", "the model"), ("version", "fer-edge"), ("options", "the options")):
        old, new = getattr(previous, name), getattr(current, name)
        if old != new:
            raise _other_run_error(path, f"{label}: {_difference(old, new)} before, {_difference(new, old)} now")
    if previous.inputs != current.inputs:
        raise _other_run_error(path, "the images to tag are other ones")


def _other_run_error(path: Path, difference: str) -> InputError:
    return InputError(
        f"{printable(str(path))}: an interrupted run differs in {difference};"
        " repeat its command to continue it, or start again with --overwrite"
    )


def _difference(options: str, others: str) -> str:
    """Return the options of a list that are not in another one."""
    return ", ".join(option for option in options.split(", ") if option not in others.split(", ")) or "none"
