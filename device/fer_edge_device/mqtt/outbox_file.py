"""The SQLite file of an outbox: opened, checked, and replaced when it is damaged."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
# An outbox of an earlier release lacks these. They do not change the version, so that the earlier release, to which a
# failed upgrade goes back, can still use the file.
_LATER_TABLES: Final = """
    BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS tracks (
        id TEXT PRIMARY KEY, time REAL NOT NULL, seen REAL NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL
    );
    CREATE TABLE IF NOT EXISTS boot (id TEXT NOT NULL, first_event INTEGER NOT NULL);
    COMMIT;
"""
_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600


class _DamagedError(Exception):
    """Raised when the file is damaged or of another release."""


class OutboxFile:
    """The database, which only this process uses, and which other users cannot read.

    Not thread-safe.
    """

    def __init__(
        self,
        path: Path,
        on_open: Callable[[sqlite3.Connection], None],
        *,
        own_folder: bool,
        first_id: Callable[[], int],
    ) -> None:
        """Create the folder, without opening the file.

        Args:
            path: the SQLite file.
            on_open: called when the file was opened, also after it was replaced.
            own_folder: whether the folder is only for the outbox, so that other users need not enter it.
            first_id: returns the id after which a new file continues, because events of the damaged one may still be in
                flight.

        Raises:
            OSError: the folder cannot be created.
        """
        self._path, self._on_open, self._first_id = path, on_open, first_id
        self._database: sqlite3.Connection | None = None
        for folder in reversed(path.parent.parents):
            if not folder.exists():
                folder.mkdir(_PRIVATE_FOLDER, exist_ok=True)
        path.parent.mkdir(_PRIVATE_FOLDER, exist_ok=True)
        if own_folder:
            with suppress(OSError):  # it belongs to somebody else, who has decided who may enter
                path.parent.chmod(_PRIVATE_FOLDER)

    def use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work on the database. If the file turns out to be damaged, do it on a new one.

        Raises:
            InputError: the file belongs to another program.
            sqlite3.Error: the work failed, or another process uses the file.
            OSError: the damaged file cannot be renamed.
        """
        try:
            work(self._open())
        except (_DamagedError, sqlite3.DatabaseError) as error:
            if not isinstance(error, _DamagedError) and result_code(error) not in _DAMAGE_CODES:
                raise
            self._replace_damaged(str(error))
            work(self._open())

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            self._make_private()
            self._database = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            try:
                self._prepare(self._database)
            except BaseException:
                self.close()
                raise
        return self._database

    def _make_private(self) -> None:
        """Create the file for this user alone; SQLite gives its log the same mode."""
        with suppress(OSError):  # SQLite says better what is wrong
            self._path.touch(_PRIVATE_FILE, exist_ok=False)
        with suppress(OSError):
            # The mode is changed by name: to close a descriptor of the file would release SQLite's locks on it.
            if self._path.is_file():
                self._path.chmod(_PRIVATE_FILE)

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
            database.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (self._first_id(),))
            database.commit()
        database.executescript(_LATER_TABLES)
        (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if result != "ok":
            raise _DamagedError(result)
        self._on_open(database)

    def _replace_damaged(self, reason: str) -> None:
        self.close()
        renamed = self._path.with_name(f"{self._path.name}.damaged")
        for suffix in ("-wal", ""):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.replace(renamed.with_name(renamed.name + suffix))
        logger.warning(
            "%s: damaged (%s); renamed to %s, and replaced by a new outbox", self._path, reason, renamed.name
        )


def result_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary result code."""
    return error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else sqlite3.SQLITE_ERROR
