"""What the program's SQLite files have in common: privacy, a mark, and what is done about damage."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600
_DAMAGE_CODES: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class DamagedError(Exception):
    """Raised when a file is damaged or of another release."""


def is_damage(error: Exception) -> bool:
    """Return whether an error says that the file is damaged."""
    if isinstance(error, sqlite3.DatabaseError):
        return result_code(error) in _DAMAGE_CODES
    return isinstance(error, DamagedError)


def check_pages(database: sqlite3.Connection) -> None:
    """Check the structure of a database.

    Raises:
        DamagedError: it is damaged.
    """
    (result,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise DamagedError(result)


def make_folders(path: Path) -> None:
    """Create the folders of a file for this user alone, as far as they do not exist.

    Raises:
        OSError: one cannot be created.
    """
    for folder in reversed(path.parents):
        if not folder.is_dir():
            folder.mkdir(PRIVATE_FOLDER, exist_ok=True)


def make_private(path: Path) -> None:
    """Create a file for this user alone; SQLite gives its log the same mode."""
    with suppress(OSError):  # SQLite says better what is wrong
        path.touch(_PRIVATE_FILE, exist_ok=False)
    with suppress(OSError):
        # The mode is changed by name: to close a descriptor of the file would release SQLite's locks on it.
        if path.is_file():
            path.chmod(_PRIVATE_FILE)


def rename_damaged(path: Path) -> Path:
    """Rename a damaged file, and its log, so that a new one can take its place; return the new name.

    Raises:
        OSError: it cannot be renamed.
    """
    renamed = path.with_name(f"{path.name}.damaged")
    for suffix in ("-wal", ""):
        file = path.with_name(path.name + suffix)
        if file.exists():
            file.replace(renamed.with_name(renamed.name + suffix))
    return renamed


def result_code(error: sqlite3.DatabaseError) -> int:
    """Return SQLite's primary result code."""
    return error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else sqlite3.SQLITE_ERROR
