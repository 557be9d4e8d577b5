"""Periods of a history: hours and days of minutes, and the times that a user gives."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from fer_edge.errors import InputError
from fer_edge.utils.arguments import describe_value
from fer_edge.utils.duration import parse_duration
from fer_edge_device.history.database import read_minutes, reading
from fer_edge_device.history.rows import Period

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Length = Literal["minute", "hour", "day"]


def combine(minutes: Iterable[Period], length: Length) -> Iterator[Period]:
    """Yield the hours or days of minutes, in the local time zone; those in which nothing was recorded are left out.

    Args:
        minutes: minutes in order.
        length: the length of a period.
    """
    period: Period | None = None
    for minute in minutes:
        start = _start_of(minute.start, length)
        if period is None or period.start != start:
            if period is not None:
                yield period
            period = Period(start)
        period.add(minute)
    if period is not None:
        yield period


def read_periods(path: Path, since: float, until: float, length: Length) -> list[Period]:
    """Return the periods of a history that begin in [since, until), in seconds since 1970, in order.

    Raises:
        InputError: there is no history, or it cannot be read.
    """
    with reading(path) as database:
        return [*combine(read_minutes(database, since, until), length)]


def labels_of(periods: Iterable[Period]) -> list[str]:
    """Return every emotion of some periods, in alphabetical order."""
    return sorted({emotion for period in periods for emotion in period.emotion_s})


def parse_time(text: str, option: str) -> float:
    """Convert a date such as ``2026-11-20`` or ``2026-11-20T14:30``, or a duration before now such as ``7d``.

    Args:
        text: the date, in the local time zone unless it names one, or the duration.
        option: the command-line option that gave it, for the error.

    Returns:
        Seconds since 1970.

    Raises:
        InputError: the text is neither.
    """
    try:
        return datetime.fromisoformat(text.strip()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        # A number alone is of a unit that nobody can guess.
        return time.time() - parse_duration(text if not text.strip().isdecimal() else "", option)
    except InputError:
        shown = text if text.isprintable() and len(text) <= 80 else describe_value(text)
        raise InputError(
            f"{option} {shown}: neither a date nor a duration; write 2026-11-20, 2026-11-20T14:30, 7d or 12h"
        ) from None


def local_time(seconds: float) -> str:
    """Return a time in the local time zone with its offset, in the form of ISO 8601."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="milliseconds" if seconds % 1 else "seconds")


def _start_of(minute: int, length: Length) -> int:
    if length == "minute":
        return minute
    moment = datetime.fromtimestamp(minute).astimezone()
    if length == "hour":  # which may begin at half past one of UTC
        return int(moment.replace(minute=0).timestamp())
    # Midnight may have another offset from UTC than the moment has.
    return int(datetime.combine(moment.date(), datetime.min.time()).timestamp())
