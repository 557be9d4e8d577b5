"""The SQLite file of an outbox."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge_device.sqlite_file import PRIVATE_FOLDER, DamagedError, SqliteFile, check_pages, check_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
_WRONG: Final = """
    SELECT 1 FROM events WHERE typeof(time) <> 'real' OR typeof(topic) <> 'text' OR typeof(payload) <> 'blob'
    UNION ALL SELECT 1 FROM tracks
        WHERE typeof(time) <> 'real' OR typeof(seen) <> 'real' OR typeof(topic) <> 'text' OR typeof(payload) <> 'blob'
    UNION ALL SELECT 1 FROM boot WHERE typeof(id) <> 'text' OR typeof(first_event) <> 'integer'
    UNION ALL SELECT 1 WHERE (SELECT group_concat(typeof(count)) FROM dropped) IS NOT 'integer'
    LIMIT 1
"""


class OutboxFile(SqliteFile):
    """The database, which only this process uses."""

    noun = "outbox"

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
        super().__init__(path)
        self._on_open, self._first_id = on_open, first_id
        if own_folder:
            with suppress(OSError):  # it belongs to somebody else, who has decided who may enter
                path.parent.chmod(PRIVATE_FOLDER)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=0, check_same_thread=False)

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
        check_rows(database, _WRONG)
        self._on_open(database)
