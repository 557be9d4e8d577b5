"""The tracks whose end is not stored yet, so that a run that was killed does not leave faces in view for ever."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING

import msgspec

from fer_edge_device.messages import Event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from fer_edge_device.mqtt.outbox_events import NewEvent


def record_tracks(
    database: sqlite3.Connection, events: Sequence[NewEvent], boot_time: float, seen: float | None
) -> None:
    """Keep the latest event of each track until its end.

    Args:
        database: an outbox, in a transaction.
        events: the new events.
        boot_time: when the machine was started, in seconds since 1970.
        seen: when the faces of all open tracks were in view, on the clock of the events; None if unknown.
    """
    for event in events:
        if event.is_end:
            database.execute("DELETE FROM tracks WHERE id = ?", (event.track,))
        else:
            database.execute(
                "INSERT INTO tracks (id, time, seen, topic, payload) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET time = excluded.time, seen = excluded.seen, topic = excluded.topic,"
                " payload = excluded.payload",
                (event.track, boot_time + event.made_at, event.time, event.topic, event.payload),
            )
    if seen is not None:
        database.execute("UPDATE tracks SET seen = ?, time = ?", (seen, clock.time()))


def take_ends(database: sqlite3.Connection) -> list[tuple[float, str, bytes]]:
    """Forget all tracks.

    Args:
        database: an outbox, in a transaction.

    Returns:
        Time in seconds since 1970, topic and payload of the end of each, in the order in which they began.
    """
    rows = database.execute("SELECT time, seen, topic, payload FROM tracks ORDER BY rowid").fetchall()
    database.execute("DELETE FROM tracks")
    return [(time, topic, end) for time, seen, topic, payload in rows if (end := _make_end(payload, seen)) is not None]


def _make_end(payload: bytes, seen: float) -> bytes | None:
    """Return the end of a track.

    Args:
        payload: its latest event.
        seen: when its face was in view for the last time.

    Returns:
        The encoded event; None if the latest one is of another release.
    """
    try:
        event = msgspec.json.decode(payload, type=Event)
    except msgspec.MsgspecError:
        return None
    time = max(event.time, seen)
    duration = round(event.duration_s + time - event.time, 3)
    return msgspec.json.encode(
        msgspec.structs.replace(event, event_type="end", previous=None, time=time, duration_s=duration)
    )
