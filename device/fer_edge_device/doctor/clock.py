"""Check the clock: a wrong one makes the times of events wrong and certificates invalid."""

from __future__ import annotations

import ctypes
import datetime as dt
from typing import TYPE_CHECKING, Final

from fer_edge_device.doctor.base import Finding

if TYPE_CHECKING:
    from fer_edge_device.config.settings import Config

_MIN_YEAR, _MAX_YEAR = 2026, 2100
_MAX_ERROR_US: Final = 16_000_000  # above it, systemd-timedated counts the clock as not synchronized


class _Timex(ctypes.Structure):
    """The first fields that adjtimex(2) fills in, and space for the others."""

    _fields_ = (
        ("modes", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


def check_clock(config: Config) -> Finding:
    """Check that the clock is plausible and set by a time server."""
    del config
    timex = _Timex()
    known = ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) >= 0
    return clock_finding(dt.datetime.now(dt.UTC), timex.maxerror < _MAX_ERROR_US if known else None)


def clock_finding(now: dt.datetime, synchronized: bool | None) -> Finding:  # noqa: FBT001 - what is judged
    """Return whether a clock can be trusted.

    Args:
        now: the time that it shows.
        synchronized: whether a time server sets it; None if that is unknown.
    """
    message = f"{now:%Y-%m-%d %H:%M} UTC"
    advice = "is the network up? `timedatectl set-ntp true` lets a time server set the clock"
    if not _MIN_YEAR <= now.year <= _MAX_YEAR:
        return Finding("failure", f"{message}, which cannot be right", advice)
    if synchronized is False:
        return Finding("warning", f"{message}, not set by a time server", advice)
    return Finding("ok", message if synchronized is None else f"{message}, set by a time server")
