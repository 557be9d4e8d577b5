"""What the program's SQLite files have in common: they are private, and a damaged one is replaced."""

from __future__ import annotations

import logging
import sqlite3
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Final

from fer_edge.utils.atomic_file import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DamagedError(Exception):
    """Raised when a file is damaged or of another release."""


def is_damage(error: Exception) -> bool:
    """Return whether an error says that the file is damaged."""
    if isinstance(error, sqlite3.DatabaseError):
        return result_code(error) in _DAMAGE_CODES
    # A damaged schema is quoted in the message, which `sqlite3` then cannot decode.
    return isinstance(error, DamagedError | UnicodeDecodeError)


def check_pages(database: sqlite3.Connection) -> None:
    """Check the structure of a database.

    Raises:
        DamagedError: it is damaged.
    """
    (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise DamagedError(result)


def check_rows(database: sqlite3.Connection, wrong: str) -> None:
    """Check the content of a database, whose columns SQLite lets have any type.

    Args:
        database: the database.
        wrong: a query that finds rows which the program does not write.

    Raises:
        DamagedError: there is one.
    """
    if database.execute(wrong).fetchone():
        raise DamagedError("a row has values of other types")


class SqliteFile(ABC):
    """A database that other users cannot read. It is opened when it is used, and replaced when it is damaged.

    Not thread-safe.

    Attributes:
        noun: what the file is, for the log.
    """

    noun: ClassVar[str]

    def __init__(self, path: Path) -> None:
        """Create the folder, without opening the file.

        Raises:
            OSError: the folder cannot be created.
        """
        self._path = path
        self._database: sqlite3.Connection | None = None
        make_private_folder(path.parent)

    def use(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Do some work on the database. If the file turns out to be damaged, do it on a new one.

        Raises:
            InputError: the file belongs to another program.
            sqlite3.Error: the work failed, or another process uses the file.
            OSError: the damaged file cannot be renamed.
        """
        try:
            work(self._open())
        except (DamagedError, sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not is_damage(error):
                raise
            self._replace_damaged(str(error))
            work(self._open())

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    @abstractmethod
    def _connect(self) -> sqlite3.Connection:
        """Connect to the file."""

    @abstractmethod
    def _prepare(self, database: sqlite3.Connection) -> None:
        """Check a file that was just opened, and create its tables if it is new.

        Raises:
            DamagedError: it is damaged.
        """

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            _make_private(self._path)
            self._database = self._connect()
            try:
                self._prepare(self._database)
            except BaseException:
                self.close()
                raise
        return self._database

    def _replace_damaged(self, reason: str) -> None:
        self.close()
        renamed = self._path.with_name(f"{self._path.name}.damaged")
        for suffix in ("-wal", ""):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.replace(renamed.with_name(renamed.name + suffix))
        logger.warning(
            "%s: damaged (%s); renamed to %s, and replaced by a new %s", self._path, reason, renamed.name, self.noun
        )


def _make_private(path: Path) -> None:
    """Create a file for this user alone; SQLite gives its log the same mode."""
    with suppress(OSError):  # SQLite says better what is wrong
        path.touch(_PRIVATE_FILE, exist_ok=False)
    with suppress(OSError):
        # The mode is changed by name: to close a descriptor of the file would release SQLite's locks on it.
        if path.is_file():
            path.chmod(_PRIVATE_FILE)


def result_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary result code."""
    return error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else sqlite3.SQLITE_ERROR
