"""The SQLite file of an outbox: opened, checked, and replaced when it is damaged."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge_device.sqlite_file import (
    PRIVATE_FOLDER,
    DamagedError,
    check_pages,
    is_damage,
    make_folders,
    make_private,
    rename_damaged,
)

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
        make_folders(path)
        if own_folder:
            with suppress(OSError):  # it belongs to somebody else, who has decided who may enter
                path.parent.chmod(PRIVATE_FOLDER)

    def use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work on the database. If the file turns out to be damaged, do it on a new one.

        Raises:
            InputError: the file belongs to another program.
            sqlite3.Error: the work failed, or another process uses the file.
            OSError: the damaged file cannot be renamed.
        """
        try:
            work(self._open())
        except (DamagedError, sqlite3.DatabaseError) as error:
            if not is_damage(error):
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
            make_private(self._path)
            self._database = sqlite3.connect(self._path, timeout=0, check_same_thread=False)
            try:
                self._prepare(self._database)
            except BaseException:
                self.close()
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
            raise DamagedError(f"its format is version {version}, of another release")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("BEGIN EXCLUSIVE")
        database.commit()
        if is_new:
            database.executescript(_SCHEMA)
            database.execute("INSERT INTO sqlite_sequence VALUES ('events', ?)", (self._first_id(),))
            database.commit()
        database.executescript(_LATER_TABLES)
        check_pages(database)
        self._on_open(database)

    def _replace_damaged(self, reason: str) -> None:
        self.close()
        renamed = rename_damaged(self._path)
        logger.warning(
            "%s: damaged (%s); renamed to %s, and replaced by a new outbox", self._path, reason, renamed.name
        )
