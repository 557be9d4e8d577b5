"""The SQLite file of a history: one process writes it, others read it or delete from it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import msgspec

from fer_edge.errors import FerEdgeError, InputError, printable
from fer_edge_device.history.rows import PastEvent, Period
from fer_edge_device.sqlite_file import SqliteFile, check_pages, check_rows, is_damage, result_code
from fer_edge_device.state_folder import find_state_file, state_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fer_edge_device.config.settings import HistorySettings

_Row = TypeVar("_Row", Period, PastEvent)

_APPLICATION_ID: Final = 0x46456869  # "FEhi": marks a database as a history of fer-edge
_VERSION: Final = 2
_OLDER: Final = 1  # lacks `reliable`, and is brought up to date when it is opened for writing
_EVENT_COLUMNS: Final = (
    *("time", "event_type", "track", "emotion", "score", "previous", "duration_s", "x", "y", "width", "height"),
    *("model", "reliable", "scores"),
)
_SCHEMA: Final = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE minutes (
        start INTEGER PRIMARY KEY, observed_s REAL NOT NULL, face_s REAL NOT NULL, max_faces INTEGER NOT NULL,
        new_faces INTEGER NOT NULL, emotion_s TEXT NOT NULL
    );
    CREATE TABLE events (
        time REAL NOT NULL, event_type TEXT NOT NULL, track TEXT NOT NULL, emotion TEXT NOT NULL, score REAL NOT NULL,
        previous TEXT, duration_s REAL NOT NULL, x REAL NOT NULL, y REAL NOT NULL, width REAL NOT NULL,
        height REAL NOT NULL, model TEXT NOT NULL, scores TEXT NOT NULL, reliable INTEGER NOT NULL DEFAULT 1
    );
    CREATE INDEX events_by_time ON events (time);
    CREATE TABLE deleted (before REAL NOT NULL);
    INSERT INTO deleted VALUES (0);
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""  # noqa: S608 - both numbers are constants
_WRONG: Final = """
    SELECT 1 FROM events WHERE typeof(time) <> 'real'
    UNION ALL SELECT 1 FROM deleted WHERE typeof(before) <> 'real'
    UNION ALL SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM deleted)
    LIMIT 1
"""
_TIMES: Final = """
    SELECT MIN(low), MAX(high) FROM (
        SELECT MIN(start) AS low, MAX(start) AS high FROM minutes UNION ALL SELECT MIN(time), MAX(time) FROM events
    )
"""
_WAIT_S: Final = 10.0  # for another process that uses the file
_DAY_S: Final = 86_400
_PRUNED_SHARE: Final = 0.1  # of the time that a history covers, when it is too large


class HistoryDatabase(SqliteFile):
    """The file, open for writing; what is deleted is overwritten."""

    noun = "history"

    def __init__(self, path: Path, settings: HistorySettings) -> None:
        """Open the file, or create it.

        Args:
            path: the SQLite file.
            settings: how much may be kept.

        Raises:
            InputError: the file cannot be created, or belongs to another program.
        """
        self._settings = settings
        name = printable(str(path))
        try:
            super().__init__(path)
            self.use(lambda _: None)
        except sqlite3.Error as error:
            raise InputError(f"{name}: cannot be opened ({error}); set history.path") from error
        except OSError as error:
            raise InputError(f"{name}: {error.strerror}; set history.path") from error

    def write(self, minutes: Sequence[Period], events: Sequence[PastEvent]) -> None:
        """Write what is new, without what has been deleted meanwhile, and delete what is old or too much.

        Raises:
            sqlite3.Error: it cannot be written now.
            OSError: a damaged file cannot be renamed.
        """
        self.use(lambda database: self._write(database, minutes, events))

    def _connect(self) -> sqlite3.Connection:
        return _connect(self._path)

    def _prepare(self, database: sqlite3.Connection) -> None:
        (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        is_new = not tables and not application
        if is_new:
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
        else:
            _check(database, self._path)
            check_pages(database)
            check_rows(database, _WRONG)
            if _version_of(database) == _OLDER:
                database.executescript(
                    "BEGIN IMMEDIATE; ALTER TABLE events ADD COLUMN reliable INTEGER NOT NULL DEFAULT 1;"
                    f" PRAGMA user_version = {_VERSION}; COMMIT;"
                )
        database.execute("PRAGMA journal_mode = WAL").fetchall()
        database.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            database.executescript(_SCHEMA)

    def _write(self, database: sqlite3.Connection, minutes: Sequence[Period], events: Sequence[PastEvent]) -> None:
        now = time.time()
        with _transaction(database):
            (deleted_before,) = database.execute("SELECT MAX(before) FROM deleted").fetchone()
            if deleted_before > now:  # the clock has been set back
                deleted_before = 0.0
            for minute in minutes:
                if minute.start >= deleted_before:
                    _add_minute(database, minute)
            database.executemany(
                f"INSERT INTO events ({', '.join(_EVENT_COLUMNS)}) VALUES ({', '.join('?' * len(_EVENT_COLUMNS))})",  # noqa: S608
                [event.values() for event in events if event.time >= deleted_before],
            )
            _delete(database, now - self._settings.max_days * _DAY_S)
            _prune(database, self._settings.max_mb * 1_000_000)
        database.executescript("PRAGMA incremental_vacuum")  # `execute` would give back one page


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a history for reading; a runner may write to it meanwhile.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    _find(path, "set history.enabled = true in the configuration of `fer-edge run`, or name a history with --file")
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", timeout=_WAIT_S, uri=True)) as database:
            database.execute("PRAGMA trusted_schema = OFF")
            _check(database, path)
            yield database
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _cannot_use(path, error) from error


def read_minutes(database: sqlite3.Connection, since: float, until: float) -> Iterator[Period]:
    """Yield the minutes that start in [since, until), in seconds since 1970, in order.

    Raises:
        InputError: a row is damaged.
    """
    query = "SELECT * FROM minutes WHERE start >= ? AND start < ? ORDER BY start"
    for start, observed_s, face_s, max_faces, new_faces, emotion_s in database.execute(query, (since, until)):
        yield _to(Period, [start, observed_s, face_s, max_faces, new_faces], "emotion_s", emotion_s)


def read_events(database: sqlite3.Connection, since: float, until: float) -> Iterator[PastEvent]:
    """Yield the events in [since, until), in seconds since 1970, in order.

    Raises:
        InputError: a row is damaged.
    """
    columns = [*_EVENT_COLUMNS]
    if _version_of(database) == _OLDER:
        columns[-2] = "1"
    query = f"SELECT {', '.join(columns)} FROM events WHERE time >= ? AND time < ? ORDER BY time, rowid"  # noqa: S608
    for *values, reliable, scores in database.execute(query, (since, until)):
        yield _to(PastEvent, [*values, bool(reliable)], "scores", scores)


def delete_history(path: Path, before: float) -> tuple[int, int]:
    """Delete what is older than a time from a history; the freed space is overwritten and given back.

    A runner that has not yet written what it saw before that time will not write it.

    Args:
        path: the file; copies of it that were damaged are deleted, too.
        before: seconds since 1970; infinity deletes everything.

    Returns:
        How many minutes and events were deleted.

    Raises:
        InputError: the file cannot be opened, or is no history.
        FerEdgeError: another process keeps it locked.
    """
    _find(path, "nothing was deleted")
    try:
        with closing(_connect(path)) as database:
            _check(database, path)
            with _transaction(database):
                counts = _delete(database, before)
                # An earlier deletion may have gone further, but not into the future: then the clock was set back.
                now = time.time()
                latest = "UPDATE deleted SET before = CASE WHEN before > ? THEN ? ELSE MAX(before, ?) END"
                database.execute(latest, (now, min(before, now), min(before, now)))
            database.execute("VACUUM")
            (is_in_use, *_), *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _cannot_use(path, error) from error
    for damaged in path.parent.glob(f"{path.name}.damaged*"):
        damaged.unlink(missing_ok=True)
    if is_in_use:
        raise FerEdgeError(
            f"{printable(str(path))}: deleted, but another process reads it, so that parts are still on the disk;"
            " try again"
        )
    return counts


def history_path(settings: HistorySettings, node: str) -> Path:
    """Return the file of a node's history: as configured, else in the service's state folder, else in the user's.

    Raises:
        InputError: the user has no home folder.
    """
    return Path(settings.path) if settings.path else state_file(*_names(node))


def find_history(settings: HistorySettings, node: str, config: Path) -> Path:
    """Return the file of a node's history for another command than `fer-edge run`.

    Args:
        settings: the section of the configuration.
        node: the node's name.
        config: the configuration's file.

    Raises:
        InputError: the user has no home folder.
    """
    return Path(settings.path) if settings.path else find_state_file(*_names(node), config)


def _names(node: str) -> tuple[str, str, str]:
    return "history.sqlite", f"{node}-history.sqlite", "history.path"


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_WAIT_S, check_same_thread=False, isolation_level=None)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA secure_delete = ON").fetchall()
    return database


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


def _check(database: sqlite3.Connection, path: Path) -> None:
    """Check that a database is a history of this release."""
    name = printable(str(path))
    (application,) = database.execute("PRAGMA application_id").fetchone()
    version = _version_of(database)
    if application != _APPLICATION_ID:
        raise InputError(f"{name}: not a history but a database of another program; set another history.path")
    if version not in {_VERSION, _OLDER}:
        raise InputError(f"{name}: a history of another release (version {version}); update fer-edge, or move it away")


def _version_of(database: sqlite3.Connection) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    return int(version)


def _find(path: Path, advice: str) -> None:
    """Check that there is a history.

    Args:
        path: the file.
        advice: what to say if there is none.
    """
    try:
        found = path.is_file()
    except PermissionError:
        raise InputError(f"{printable(str(path))}: only the service and root may read it; try sudo") from None
    if not found:
        raise InputError(f"{printable(str(path))}: no history; {advice}")


def _cannot_use(path: Path, error: sqlite3.Error | UnicodeDecodeError) -> FerEdgeError:
    name = printable(str(path))
    if isinstance(error, sqlite3.OperationalError) and result_code(error) in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
    }:
        return FerEdgeError(f"{name}: another process uses it all the time; try again")
    if is_damage(error):
        return InputError(f"{name}: damaged, or not a history ({error})")
    return InputError(f"{name}: cannot be used ({error}); its owner, often the service, and root may (sudo)")


def _add_minute(database: sqlite3.Connection, minute: Period) -> None:
    """Write a minute; a run that ended in the same minute may have written a part of it."""
    before = next(read_minutes(database, minute.start, minute.start + 1), None)
    if before:
        before.add(minute)
        minute = before
    database.execute(
        "INSERT OR REPLACE INTO minutes VALUES (?, ?, ?, ?, ?, ?)",
        (
            minute.start,
            round(minute.observed_s, 1),
            round(minute.face_s, 1),
            minute.max_faces,
            minute.new_faces,
            msgspec.json.encode({emotion: round(seconds, 1) for emotion, seconds in minute.emotion_s.items()}).decode(),
        ),
    )


def _delete(database: sqlite3.Connection, before: float) -> tuple[int, int]:
    """Delete what is older than a time; return how many minutes and events that was."""
    minutes = database.execute("DELETE FROM minutes WHERE start < ?", (before,)).rowcount
    events = database.execute("DELETE FROM events WHERE time < ?", (before,)).rowcount
    return minutes, events


def _prune(database: sqlite3.Connection, max_bytes: float) -> None:
    """Delete the oldest rows until the rest fits."""
    while _used_bytes(database) > max_bytes:
        first, last = database.execute(_TIMES).fetchone()
        if first is None:
            return
        _delete(database, first + max((last - first) * _PRUNED_SHARE, 1.0))


def _used_bytes(database: sqlite3.Connection) -> int:
    (size,) = database.execute("PRAGMA page_size").fetchone()
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    return int(size * (pages - free))


def _to(row: type[_Row], values: list[object], last: str, text: str) -> _Row:
    """Convert the values of a row, the last of which is JSON."""
    names = row.__struct_fields__
    try:
        fields = dict(zip(names, values, strict=False)) | {last: msgspec.json.decode(text)}
        return msgspec.convert(fields, row)
    except (msgspec.MsgspecError, TypeError) as error:
        raise InputError(
            f"the history has a damaged row ({error}); `fer-edge history delete --all` removes all of it"
        ) from error
