"""The queue on disk in which events wait until the broker has acknowledged them."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge_device.mqtt.open_tracks import record_tracks, take_ends
from fer_edge_device.mqtt.outbox_events import StoredEvent
from fer_edge_device.mqtt.outbox_file import OutboxFile
from fer_edge_device.sqlite_file import result_code
from fer_edge_device.state_folder import state_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fer_edge_device.config.settings import OutboxSettings
    from fer_edge_device.mqtt.outbox_events import NewEvent

logger = logging.getLogger(__name__)

_DISK_CODES: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_MAX_ID: Final = 2**63 - 1
_MIN_CLOCK_JUMP: Final = 60.0  # seconds; smaller differences are drift
_CLOSE_TIMEOUT: Final = 1.0  # seconds to wait for a disk that hangs
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Outbox:
    """A bounded queue of events in a file that survives crashes and power cuts; the oldest events are dropped first.

    Thread-safe. While the disk is full or fails, events are dropped and counted, and no error is raised. A closed
    outbox neither stores nor returns events.

    Events are fresh until they reach a certain age. Those of an earlier boot are never fresh: a machine without a
    battery for its clock cannot tell how long it was off.
    """

    def __init__(self, path: Path, settings: OutboxSettings, max_fresh_s: float = 60.0) -> None:
        """Open or create the file. A damaged file is renamed and replaced by a new one.

        Args:
            path: the SQLite file; its folder is created. Both are for this user alone.
            settings: the limits.
            max_fresh_s: age in seconds up to which an event is fresh.

        Raises:
            InputError: another process uses the file, it belongs to another program, or it cannot be opened.
        """
        self._path, self._settings, self._max_fresh_s = path, settings, max_fresh_s
        self._lock = threading.Lock()
        self._count = self._dropped = self._unsaved_drops = self._newest_id = 0
        self._first_id: int | None = None  # of this run
        self._fresh_id = 0  # every event before it is no longer fresh
        self._offset = clock.time() - since_boot()
        self._failing = self._closed = False
        try:
            self._file = OutboxFile(
                path, self._read_counters, own_folder=not settings.path, first_id=lambda: self._newest_id
            )
            self._file.use(lambda _: None)
        except OSError as error:
            raise InputError(
                f"{path.parent}: cannot create the folder of the outbox ({error.strerror}); set outbox.path"
            ) from error
        except sqlite3.DatabaseError as error:
            if result_code(error) in _DISK_CODES:
                self._log_failure(error)
            elif result_code(error) == sqlite3.SQLITE_BUSY:
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

    def put(self, events: Sequence[NewEvent], seen: float | None = None) -> None:
        """Store events in one transaction. When this returns, they are on disk, or counted as dropped.

        Args:
            events: the events, the oldest first.
            seen: the time on the events' clock at which the faces of all open tracks were in view; None if unknown.
        """

        def insert(database: sqlite3.Connection) -> None:
            self._follow_clock(database)
            with database:
                ids = _insert(database, [(self._offset + each.made_at, each.topic, each.payload) for each in events])
                record_tracks(database, events, self._offset, seen)
                dropped = self._drop_old(database, self._count + len(events))
            self._count_new(ids)
            self._count_dropped(dropped)

        with self._lock:
            if not self._attempt(insert):
                self._dropped += len(events)
                self._unsaved_drops += len(events)

    def begin_run(self, *, goes_on: bool) -> None:
        """Store an end for each track that an earlier run left open, because it was killed or lost its power.

        Args:
            goes_on: whether this is still the run that left the tracks open.
        """

        def begin(database: sqlite3.Connection) -> None:
            boot = _boot_id()
            with database:
                ids = [] if goes_on else _insert(database, take_ends(database))
                if database.execute("SELECT id FROM boot").fetchall() != [(boot,)]:
                    newest = ids[-1] if ids else self._newest_id
                    database.execute("DELETE FROM boot")
                    database.execute("INSERT INTO boot VALUES (?, ?)", (boot, newest + 1))
            self._count += len(ids)
            self._newest_id = ids[-1] if ids else self._newest_id
            (self._fresh_id,) = database.execute("SELECT first_event FROM boot").fetchone()

        with self._lock:
            self._attempt(begin)

    def fresh(self, last_id: int, limit: int) -> list[StoredEvent]:
        """Return the oldest fresh events.

        Args:
            last_id: only events with a greater id are returned.
            limit: maximum number of events.
        """

        def select(database: sqlite3.Connection) -> list[StoredEvent]:
            query = (
                "SELECT id, time, topic, payload FROM events WHERE id > ? AND time BETWEEN ? AND ? ORDER BY id LIMIT ?"
            )
            first = max(last_id, self._fresh_id - 1)
            return [*map(StoredEvent._make, database.execute(query, (first, *self._fresh_times(), limit)))]

        return self._select(select)

    def backlog(self, last_id: int, limit: int, before_id: int | None = None) -> list[StoredEvent]:
        """Return the oldest events that are no longer fresh.

        Args:
            last_id: only events with a greater id are returned.
            limit: maximum number of events.
            before_id: only events with a smaller id are returned; None: no limit.
        """

        def select(database: sqlite3.Connection) -> list[StoredEvent]:
            query = "SELECT id, time, topic, payload FROM events WHERE id > ? AND id < ? ORDER BY id LIMIT ?"
            end = self._fresh_id if before_id is None else min(self._fresh_id, before_id)
            return [*map(StoredEvent._make, database.execute(query, (last_id, end, limit)))]

        return self._select(select)

    def seconds_fresh(self, event: StoredEvent) -> float:
        """Return for how many more seconds an event is fresh; negative if it is not."""
        return min(self._max_fresh_s, self._max_fresh_s - (clock.time() - event.time))

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

    def count_dropped(self, count: int) -> None:
        """Count events that were dropped before they were stored."""
        with self._lock:
            self._dropped += count
            self._unsaved_drops += count

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
        self._closed = True
        if self._lock.acquire(timeout=_CLOSE_TIMEOUT):  # a thread holds it for ever if the disk hangs
            try:
                self._file.close()
            finally:
                self._lock.release()

    def _select(self, select: Callable[[sqlite3.Connection], list[StoredEvent]]) -> list[StoredEvent]:
        """Read events after those that are too old were dropped."""
        events: list[StoredEvent] = []

        def update_and_select(database: sqlite3.Connection) -> None:
            self._follow_clock(database)
            with database:
                dropped = self._drop_old(database, self._count)
            self._count_dropped(dropped)
            self._move_fresh_id(database)
            events.extend(select(database))

        with self._lock:
            if self._count:
                self._attempt(update_and_select)
        return events

    def _fresh_times(self) -> tuple[float, float]:
        """Return the earliest and the latest time of a fresh event; the clock may have been set back a little."""
        now = clock.time()
        return now - self._max_fresh_s, now + _MIN_CLOCK_JUMP

    def _move_fresh_id(self, database: sqlite3.Connection) -> None:
        """Pass the events that are no longer fresh. It never goes back, so each event is passed once."""
        query = "SELECT id FROM events WHERE id >= ? AND time BETWEEN ? AND ? ORDER BY id LIMIT 1"
        row = database.execute(query, (self._fresh_id, *self._fresh_times())).fetchone()
        self._fresh_id = row[0] if row else self._newest_id + 1

    def _attempt(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Do some work on the database and return whether it succeeded; a failure is logged once."""
        if self._closed:
            return False
        try:
            self._file.use(work)
        except (sqlite3.Error, OSError, InputError) as error:
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

    def _read_counters(self, database: sqlite3.Connection) -> None:
        """Read the counters of a file that was just opened."""
        self._count, newest = database.execute("SELECT COUNT(*), MAX(id) FROM events").fetchone()
        self._newest_id = newest or self._newest_id
        (saved,) = database.execute("SELECT count FROM dropped").fetchone()
        self._dropped = saved + self._unsaved_drops
        self._first_id = None

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

    def _count_new(self, ids: Sequence[int]) -> None:
        """Update the counters after a transaction that stored new events."""
        if ids:
            self._count += len(ids)
            self._newest_id, self._first_id = ids[-1], self._first_id or ids[0]

    def _count_dropped(self, dropped: int) -> None:
        """Update the counters after a transaction that dropped events."""
        self._count -= dropped
        self._dropped += dropped
        self._unsaved_drops = 0

    def _follow_clock(self, database: sqlite3.Connection) -> None:
        """Shift the times of this run's events when the clock is set, so that their age stays right."""
        offset = clock.time() - since_boot()
        jump = offset - self._offset
        if abs(jump) > _MIN_CLOCK_JUMP and self._first_id is not None:
            with database:
                database.execute("UPDATE events SET time = time + ? WHERE id >= ?", (jump, self._first_id))
        self._offset = offset  # only now: if the disk is full, the events' times are still to be shifted


def _insert(database: sqlite3.Connection, rows: Sequence[tuple[float, str, bytes]]) -> list[int]:
    """Insert events and return their ids."""
    query = "INSERT INTO events (time, topic, payload) VALUES (?, ?, ?)"
    return [database.execute(query, row).lastrowid or 0 for row in rows]


def since_boot() -> float:
    """Return seconds since the machine was started, also those in which it was suspended."""
    return clock.clock_gettime(clock.CLOCK_BOOTTIME)


def _boot_id() -> str:
    """Return what identifies the time since the machine was started."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def outbox_path(settings: OutboxSettings, node: str) -> Path:
    """Return the file of a node's outbox: as configured, else in the service's state folder, else in the user's.

    Raises:
        InputError: the user has no home folder.
    """
    return Path(settings.path) if settings.path else state_file("outbox.sqlite", f"{node}.sqlite", "outbox.path")
