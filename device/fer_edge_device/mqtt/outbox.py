"""Events that wait on disk until a broker has acknowledged them."""

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

_APPLICATION: Final = 0x46456F62  # "FEob": marks a database as an outbox of ours
_VERSION: Final = 1
_BEGIN: Final = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
    );
    CREATE TABLE dropped (count INTEGER NOT NULL);
    INSERT INTO dropped VALUES (0);
    PRAGMA application_id = {_APPLICATION};
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""  # noqa: S608 - the numbers are ours
_OF_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_OF_THE_DISK: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_NO_ID: Final = 2**63 - 1  # greater than any
_CLOCK_WAS_SET: Final = 60.0  # seconds: a greater jump is no drift


class Row(NamedTuple):
    """An event that waits.

    Attributes:
        id: grows with each event, and is never used again.
        topic: where to publish it.
        payload: what to publish.
    """

    id: int
    topic: str
    payload: bytes


class _DamagedError(Exception):
    """Raised when the file cannot be gone on with."""


class Outbox:
    """A queue of events in a file that outlives a crash and a power cut; bounded, the oldest go first.

    Any thread may use it. While the disk is full or fails, events are dropped and counted, and nothing is raised. Once
    it is closed it gives and takes nothing.
    """

    def __init__(self, path: Path, settings: OutboxSettings) -> None:
        """Open the file, or begin one; a damaged one is set aside.

        Args:
            path: of the SQLite file; its folder is made.
            settings: the bounds.

        Raises:
            InputError: another process uses the file, it is another program's, or it cannot be opened.
        """
        self._path, self._settings = path, settings
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._count = self._dropped = self._unsaved = self._newest = 0
        self._first: int | None = None
        self._offset = clock.time() - clock.monotonic()
        self._trouble = self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._with_database(lambda _: None)
        except OSError as error:
            raise InputError(f"{path.parent}: no folder for the outbox ({error.strerror}); set outbox.path") from error
        except sqlite3.DatabaseError as error:
            if _code(error) in _OF_THE_DISK:
                self._tell(error)
            elif _code(error) == sqlite3.SQLITE_BUSY:
                raise InputError(
                    f"{path}: another fer-edge uses this outbox; give each its own node, or its own outbox.path"
                ) from error
            else:
                raise InputError(f"{path}: the outbox cannot be opened ({error}); set outbox.path") from error

    def __len__(self) -> int:
        """How many events wait."""
        return self._count

    @property
    def dropped(self) -> int:
        """How many events were dropped since the file was begun."""
        return self._dropped

    def put(self, topic: str, payload: bytes) -> None:
        """Add an event; when this returns, it is on disk, or counted as dropped where the disk would not have it."""

        def insert(database: sqlite3.Connection) -> None:
            self._follow_clock(database)
            with database:
                cursor = database.execute(
                    "INSERT INTO events (time, topic, payload) VALUES (?, ?, ?)", (clock.time(), topic, payload)
                )
                gone = self._drop_old(database, self._count + 1)
            self._count += 1
            self._newest = cursor.lastrowid or 0
            self._first = self._first or cursor.lastrowid
            self._forget(gone)

        with self._lock:
            if not self._attempt(insert):
                self._dropped += 1
                self._unsaved += 1

    def after(self, last: int, limit: int) -> list[Row]:
        """The oldest events that wait.

        Args:
            last: only those with a greater id.
            limit: no more than so many.
        """
        rows: list[Row] = []

        def select(database: sqlite3.Connection) -> None:
            self._follow_clock(database)
            with database:
                gone = self._drop_old(database, self._count)
            self._forget(gone)
            query = "SELECT id, topic, payload FROM events WHERE id > ? ORDER BY id LIMIT ?"
            rows.extend(map(Row._make, database.execute(query, (last, limit))))

        with self._lock:
            if self._count:
                self._attempt(select)
        return rows

    def drop(self, number: int) -> bool:
        """Give up the event of this id, and count it.

        Returns:
            False when the disk would not have that.
        """

        def delete(database: sqlite3.Connection) -> None:
            with database:
                gone = database.execute("DELETE FROM events WHERE id = ?", (number,)).rowcount
                database.execute("UPDATE dropped SET count = count + ?", (gone + self._unsaved,))
            self._forget(gone)

        with self._lock:
            return self._attempt(delete)

    def done(self, numbers: Sequence[int]) -> None:
        """Forget the events of these ids: they have been delivered."""

        def delete(database: sqlite3.Connection) -> None:
            with database:
                cursor = database.executemany("DELETE FROM events WHERE id = ?", [(number,) for number in numbers])
            self._count -= cursor.rowcount

        with self._lock:
            if numbers:
                self._attempt(delete)

    def close(self) -> None:
        """Close the file for good; what waits in it is for the next run."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _attempt(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Whether some work on the database succeeded; when it did not, that is told, once."""
        if self._closed:
            return False
        try:
            self._with_database(work)
        except (sqlite3.Error, OSError) as error:
            self._tell(error)
            return False
        if self._trouble:
            logger.warning("%s: events can be kept again", self._path)
            self._trouble = False
        return True

    def _tell(self, error: Exception) -> None:
        if not self._trouble:
            logger.warning(
                "%s: events cannot be kept (%s); they are dropped until that is mended. Is the disk full?",
                self._path,
                error,
            )
            self._trouble = True

    def _with_database(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work on the database; if the file turns out to be damaged, on a new one."""
        try:
            work(self._connected())
        except (_DamagedError, sqlite3.DatabaseError) as error:
            if not isinstance(error, _DamagedError) and _code(error) not in _OF_DAMAGE:
                raise
            self._set_aside(str(error))
            work(self._connected())

    def _connected(self) -> sqlite3.Connection:
        if self._database is None:
            self._database = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            try:
                self._prepare(self._database)
            except BaseException:
                self._disconnect()
                raise
        return self._database

    def _prepare(self, database: sqlite3.Connection) -> None:
        # Before anything is read: keeps every other process out, and the index of the log in memory.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        (tables,) = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        new = not tables and not application
        if not new and application != _APPLICATION:
            raise InputError(f"{self._path}: a database of another program, not an outbox; choose another outbox.path")
        if not new and version != _VERSION:
            raise _DamagedError(f"made by another release, as version {version}")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN EXCLUSIVE")
        database.commit()
        if new:
            database.executescript(_BEGIN)
            # After a file that was set aside: events of its ids may be on their way.
            database.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (self._newest,))
            database.commit()
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise _DamagedError(found)
        self._count, newest = database.execute("SELECT COUNT(*), MAX(id) FROM events").fetchone()
        self._newest = newest or self._newest
        (saved,) = database.execute("SELECT count FROM dropped").fetchone()
        self._dropped = saved + self._unsaved

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _set_aside(self, why: str) -> None:
        self._disconnect()
        aside = self._path.with_name(f"{self._path.name}.damaged")
        for suffix in ("-wal", ""):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.replace(aside.with_name(aside.name + suffix))
        self._count, self._first = 0, None
        logger.warning("%s: damaged (%s); set aside as %s, and begun anew", self._path, why, aside.name)

    def _drop_old(self, database: sqlite3.Connection, count: int) -> int:
        """Delete what is beyond the bounds, the oldest first.

        Args:
            database: within a transaction.
            count: how many events there are.

        Returns:
            How many were deleted.
        """
        oldest = clock.time() - self._settings.max_age_h * 3600
        query = "SELECT id FROM events WHERE time >= ? ORDER BY id LIMIT 1"
        (kept,) = database.execute(query, (oldest,)).fetchone() or (_NO_ID,)
        if (excess := count - self._settings.max_events) > 0:
            query = "SELECT id FROM events ORDER BY id LIMIT 1 OFFSET ?"
            kept = max(kept, *database.execute(query, (excess,)).fetchone())
        gone = database.execute("DELETE FROM events WHERE id < ?", (kept,)).rowcount
        if gone or self._unsaved:
            database.execute("UPDATE dropped SET count = count + ?", (gone + self._unsaved,))
        return gone

    def _forget(self, gone: int) -> None:
        """Take over what a transaction that has succeeded dropped."""
        self._count -= gone
        self._dropped += gone
        self._unsaved = 0

    def _follow_clock(self, database: sqlite3.Connection) -> None:
        """When the clock is set, as at the first contact with a time server, the age of events must not jump."""
        offset = clock.time() - clock.monotonic()
        jump = offset - self._offset
        if abs(jump) > _CLOCK_WAS_SET and self._first is not None:
            with database:
                database.execute("UPDATE events SET time = time + ? WHERE id >= ?", (jump, self._first))
        self._offset = offset  # not before: on a full disk the events' times are still to be moved


def outbox_path(settings: OutboxSettings, node: str) -> Path:
    """Where the outbox of a node is: as configured, else in the service's state folder, else in the user's.

    Raises:
        InputError: the user has no home.
    """
    if settings.path:
        return Path(settings.path)
    if folders := os.environ.get("STATE_DIRECTORY"):
        return Path(folders.split(":")[0], "outbox.sqlite")
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    except RuntimeError as error:
        raise InputError("no place for the outbox: this user has no home; set outbox.path") from error
    return state / "fer-edge" / f"{node}.sqlite"


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's primary result code."""
    return error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else sqlite3.SQLITE_ERROR
