"""The events of an outbox: as they come, and as they are stored."""

from __future__ import annotations

from typing import NamedTuple


class NewEvent(NamedTuple):
    """An event to store.

    Attributes:
        topic: the topic to publish to while it is fresh.
        payload: the encoded message.
        made_at: when it was made, in seconds since the machine was started.
        track: the track that it belongs to.
        time: when it happened, on the clock of its source.
        is_end: whether the track ends with it.
    """

    topic: str
    payload: bytes
    made_at: float
    track: str
    time: float
    is_end: bool


class StoredEvent(NamedTuple):
    """An event in the outbox.

    Attributes:
        id: increases with each event and is never reused.
        time: when it happened, in seconds since 1970.
        topic: the topic to publish to while it is fresh.
        payload: the encoded message.
    """

    id: int
    time: float
    topic: str
    payload: bytes
