"""The queue on disk in which events wait until the broker has acknowledged them."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fer_edge_device.config.settings import OutboxSettings

logger = logging.getLogger(__name__)

_APPLICATION_ID: Final = 0x46456F62  # "FEob": marks a database as an outbox of fer-edge
_VERSION: Final = 1
_SCHEMA: Final = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
    );
    CREATE TABLE dropped (count INTEGER NOT NULL);
    INSERT INTO dropped VALUES (0);
    PRAGMA application_id = {_APPLICATION_ID};
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""  # noqa: S608 - both numbers are constants
_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK_CODES: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_MAX_ID: Final = 2**63 - 1
_MIN_CLOCK_JUMP: Final = 60.0  # seconds; smaller differences are drift


class StoredEvent(NamedTuple):
    """An event in the outbox.

    Attributes:
        id: increases with each event and is never reused.
        topic: the topic to publish to.
        payload: the encoded message.
    """

    id: int
    topic: str
    payload: bytes


class _DamagedError(Exception):
    """Raised when the file is damaged or of another release."""


class Outbox:
    """A bounded queue of events in a file that survives crashes and power cuts; the oldest events are dropped first.

    Thread-safe. While the disk is full or fails, events are dropped and counted, and no error is raised. A closed
    outbox neither stores nor returns events.
    """

    def __init__(self, path: Path, settings: OutboxSettings) -> None:
        """Open or create the file. A damaged file is renamed and replaced by a new one.

        Args:
            path: the SQLite file; its folder is created.
            settings: the limits.

        Raises:
            InputError: another process uses the file, it belongs to another program, or it cannot be opened.
        """
        self._path, self._settings = path, settings
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._count = self._dropped = self._unsaved_drops = self._newest_id = 0
        self._first_id: int | None = None
        self._offset = clock.time() - clock.monotonic()
        self._failing = self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._with_database(lambda _: None)
        except OSError as error:
            raise InputError(
                f"{path.parent}: cannot create the folder of the outbox ({error.strerror}); set outbox.path"
            ) from error
        except sqlite3.DatabaseError as error:
            if _code(error) in _DISK_CODES:
                self._log_failure(error)
            elif _code(error) == sqlite3.SQLITE_BUSY:
                raise InputError(
                    f"{path}: another fer-edge process uses this outbox; give each its own node name or outbox.path"
                ) from error
            else:
                raise InputError(f"{path}: the outbox cannot be opened ({error}); set outbox.path") from error

    def __len__(self) -> int:
        """Return the number of stored events."""
        return self._count

    @property
    def dropped(self) -> int:
        """Number of events that were dropped since the file was created."""
        return self._dropped

    def put(self, topic: str, payload: bytes) -> None:
        """Store an event. When this returns, it is on disk, or counted as dropped if it could not be written."""

        def insert(database: sqlite3.Connection) -> None:
            self._follow_clock(database)
            with database:
                cursor = database.execute(
                    "INSERT INTO events (time, topic, payload) VALUES (?, ?, ?)", (clock.time(), topic, payload)
                )
                dropped = self._drop_old(database, self._count + 1)
            self._count += 1
            self._newest_id = cursor.lastrowid or 0
            self._first_id = self._first_id or cursor.lastrowid
            self._count_dropped(dropped)

        with self._lock:
            if not self._attempt(insert):
                self._dropped += 1
                self._unsaved_drops += 1

    def after(self, last_id: int, limit: int) -> list[StoredEvent]:
        """Return the oldest events.

        Args:
            last_id: only events with a greater id are returned.
            limit: maximum number of events.
        """
        events: list[StoredEvent] = []

        def select(database: sqlite3.Connection) -> None:
            self._follow_clock(database)
            with database:
                dropped = self._drop_old(database, self._count)
            self._count_dropped(dropped)
            query = "SELECT id, topic, payload FROM events WHERE id > ? ORDER BY id LIMIT ?"
            events.extend(map(StoredEvent._make, database.execute(query, (last_id, limit))))

        with self._lock:
            if self._count:
                self._attempt(select)
        return events

    def drop(self, event_id: int) -> bool:
        """Drop an event and count it.

        Returns:
            Whether it was dropped; False if the disk failed.
        """

        def delete(database: sqlite3.Connection) -> None:
            with database:
                dropped = database.execute("DELETE FROM events WHERE id = ?", (event_id,)).rowcount
                database.execute("UPDATE dropped SET count = count + ?", (dropped + self._unsaved_drops,))
            self._count_dropped(dropped)

        with self._lock:
            return self._attempt(delete)

    def delete(self, event_ids: Sequence[int]) -> None:
        """Delete events that have been delivered."""

        def delete_all(database: sqlite3.Connection) -> None:
            with database:
                cursor = database.executemany("DELETE FROM events WHERE id = ?", [(each,) for each in event_ids])
            self._count -= cursor.rowcount

        with self._lock:
            if event_ids:
                self._attempt(delete_all)

    def close(self) -> None:
        """Close the file; its events stay for the next run."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _attempt(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Do some work on the database and return whether it succeeded; a failure is logged once."""
        if self._closed:
            return False
        try:
            self._with_database(work)
        except (sqlite3.Error, OSError) as error:
            self._log_failure(error)
            return False
        if self._failing:
            logger.warning("%s: events can be stored again", self._path)
            self._failing = False
        return True

    def _log_failure(self, error: Exception) -> None:
        if not self._failing:
            logger.warning(
                "%s: events cannot be stored (%s) and are dropped until they can. Is the disk full?",
                self._path,
                error,
            )
            self._failing = True

    def _with_database(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work on the database. If the file turns out to be damaged, do it on a new one."""
        try:
            work(self._open())
        except (_DamagedError, sqlite3.DatabaseError) as error:
            if not isinstance(error, _DamagedError) and _code(error) not in _DAMAGE_CODES:
                raise
            self._replace_damaged(str(error))
            work(self._open())

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            try:
                self._prepare(self._database)
            except BaseException:
                self._disconnect()
                raise
        return self._database

    def _prepare(self, database: sqlite3.Connection) -> None:
        # Set before anything is read, this keeps out other processes and keeps the log's index in memory.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        is_new = not tables and not application
        if not is_new and application != _APPLICATION_ID:
            raise InputError(f"{self._path}: not an outbox but a database of another program; set another outbox.path")
        if not is_new and version != _VERSION:
            raise _DamagedError(f"its format is version {version}, of another release")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN EXCLUSIVE")
        database.commit()
        if is_new:
            database.executescript(_SCHEMA)
            # After a damaged file: events with its ids may still be in flight.
            database.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (self._newest_id,))
            database.commit()
        (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise _DamagedError(result)
        self._count, newest = database.execute("SELECT COUNT(*), MAX(id) FROM events").fetchone()
        self._newest_id = newest or self._newest_id
        (saved,) = database.execute("SELECT count FROM dropped").fetchone()
        self._dropped = saved + self._unsaved_drops

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _replace_damaged(self, reason: str) -> None:
        self._disconnect()
        renamed = self._path.with_name(f"{self._path.name}.damaged")
        for suffix in ("-wal", ""):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.replace(renamed.with_name(renamed.name + suffix))
        self._count, self._first_id = 0, None
        logger.warning(
            "%s: damaged (%s); renamed to %s, and replaced by a new outbox", self._path, reason, renamed.name
        )

    def _drop_old(self, database: sqlite3.Connection, count: int) -> int:
        """Delete events beyond the limits, the oldest first.

        Args:
            database: in a transaction.
            count: the number of stored events.

        Returns:
            The number of deleted events.
        """
        min_time = clock.time() - self._settings.max_age_h * 3600
        query = "SELECT id FROM events WHERE time >= ? ORDER BY id LIMIT 1"
        (first_kept,) = database.execute(query, (min_time,)).fetchone() or (_MAX_ID,)
        if (excess := count - self._settings.max_events) > 0:
            query = "SELECT id FROM events ORDER BY id LIMIT 1 OFFSET ?"
            first_kept = max(first_kept, *database.execute(query, (excess,)).fetchone())
        dropped = database.execute("DELETE FROM events WHERE id < ?", (first_kept,)).rowcount
        if dropped or self._unsaved_drops:
            database.execute("UPDATE dropped SET count = count + ?", (dropped + self._unsaved_drops,))
        return dropped

    def _count_dropped(self, dropped: int) -> None:
        """Update the counters after a transaction that dropped events."""
        self._count -= dropped
        self._dropped += dropped
        self._unsaved_drops = 0

    def _follow_clock(self, database: sqlite3.Connection) -> None:
        """Shift the times of this run's events when the clock is set, so that their age stays right."""
        offset = clock.time() - clock.monotonic()
        jump = offset - self._offset
        if abs(jump) > _MIN_CLOCK_JUMP and self._first_id is not None:
            with database:
                database.execute("UPDATE events SET time = time + ? WHERE id >= ?", (jump, self._first_id))
        self._offset = offset  # only now: if the disk is full, the events' times are still to be shifted


def outbox_path(settings: OutboxSettings, node: str) -> Path:
    """Return the file of a node's outbox: as configured, else in the service's state folder, else in the user's.

    Raises:
        InputError: the user has no home folder.
    """
    if settings.path:
        return Path(settings.path)
    if folders := os.environ.get("STATE_DIRECTORY"):
        return Path(folders.split(":")[0], "outbox.sqlite")
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError as error:
        raise InputError("this user has no home folder for the outbox; set outbox.path") from error
    return state / "fer-edge" / f"{node}.sqlite"


def trial_outbox_path(path: Path) -> Path:
    """Return the file of an outbox for trials: what a node is shown in a trial must not wait among its own events.

    Args:
        path: the node's own outbox.
    """
    return path.parent / "trials" / path.name


def _code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary result code."""
    return error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else sqlite3.SQLITE_ERROR
