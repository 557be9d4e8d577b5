"""The log on standard error: plain lines, JSON lines, or lines with priorities for systemd's journal."""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import time
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from fer_edge.errors import one_line
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge_device.config.settings import LogSettings

_OWN_PACKAGES: Final = ("fer_edge", "fer_edge_device")
_LEVELS: Final = logging.getLevelNamesMapping()
_STDERR_TIMEOUT: Final = 0.2  # seconds
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def set_up_logging(settings: LogSettings) -> None:
    """Send the log to standard error, in the format and from the level that the settings give.

    Other packages, such as picamera2, log only warnings and errors, except with level ``debug``.
    """
    level = _LEVELS[settings.level.upper()]
    log_format = settings.format
    if log_format == "auto":
        log_format = "journal" if _stderr_is_journal() else "plain"
    handler = _Handler()
    handler.setFormatter({"plain": _Plain, "json": _Json, "journal": _Journal}[log_format]())
    others = level if level == logging.DEBUG else max(level, logging.WARNING)
    logging.basicConfig(handlers=[handler], level=others, force=True)
    for name in _OWN_PACKAGES:
        logging.getLogger(name).setLevel(level)


def logging_is_set_up() -> bool:
    """Return whether `set_up_logging` has been called. From then on, errors go to the log as well."""
    return any(isinstance(handler.formatter, _Plain | _Journal | _Json) for handler in logging.root.handlers)


class RateLimitedLog:
    """A rate limit for log lines, so that senders of messages cannot fill the log.

    Not thread-safe.
    """

    def __init__(
        self, logger: logging.Logger, level: int, noun: str, *, lines: int = 10, interval: float = 60.0
    ) -> None:
        """Allow the first lines at once.

        Args:
            logger: logs the lines.
            level: the level of the lines.
            noun: what each line is about, in the singular.
            lines: maximum number of lines in an interval.
            interval: in seconds.
        """
        self._logger, self._level, self._noun = logger, level, noun
        self._lines, self._interval = lines, interval
        self._logged, self._end, self._skipped = 0, 0.0, 0

    def log(self, line: str) -> None:
        """Log a line, or count it if there were many just before."""
        self.flush()
        now = time.monotonic()
        if now >= self._end:
            self._logged, self._end = 0, now + self._interval
        if self._logged >= self._lines:
            self._skipped += 1
            return
        self._logged += 1
        self._logger.log(self._level, "%s", line)

    def flush(self, *, at_end: bool = False) -> None:
        """Log how many lines were only counted, once their interval is over; call this now and then.

        Args:
            at_end: do not wait for that.
        """
        if self._skipped and (at_end or time.monotonic() >= self._end):
            were = "was" if self._skipped == 1 else "were"
            self._logger.log(self._level, "%s %s not logged", counted(self._skipped, f"more {self._noun}"), were)
            self._skipped = 0


class LogTail(logging.Handler):
    """Keeps the last lines of the log, to show them."""

    def __init__(self, lines: int = 50) -> None:
        """Keep so many lines."""
        super().__init__()
        self._lines: deque[str] = deque(maxlen=lines)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        moment = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "seconds")
        self._lines.append(one_line(f"{moment[:19]} {record.levelname.lower()}: {record.getMessage()}"))

    def lines(self) -> list[str]:
        """Return the lines, the oldest first."""
        return [*self._lines]


def _stderr_is_journal() -> bool:
    """Return whether standard error is the stream that systemd connected to its journal.

    See $JOURNAL_STREAM in systemd.exec(5).
    """
    try:
        stream = os.fstat(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # none, closed, or not a file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stream.st_dev}:{stream.st_ino}"


def stderr_is_ready(timeout: float = _STDERR_TIMEOUT) -> bool:
    """Return whether standard error takes a line; a pipe that nobody reads does not, and writing would never return.

    Args:
        timeout: seconds to wait for its reader.
    """
    poll = select.poll()
    try:
        poll.register(sys.stderr, select.POLLOUT)
    except (AttributeError, OSError, TypeError, ValueError):  # none, closed, or not a file
        return True
    return bool(poll.poll(timeout * 1e3))


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to standard error through a descriptor of its own.

    The usual one is replaced at times to hide output of native libraries, also while another thread writes a line. A
    line is lost if standard error does not take it, so that no thread waits for its reader.
    """

    _has_stalled = False

    def __init__(self) -> None:
        """Use the present standard error."""
        super().__init__()
        self._stderr: TextIO = sys.stderr
        with suppress(AttributeError, OSError, ValueError):  # none, closed, or not a file
            copy = os.dup(sys.stderr.fileno())
            self._stderr = os.fdopen(copy, "w", 1, encoding=sys.stderr.encoding, errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        ready = stderr_is_ready(0.0 if self._has_stalled else _STDERR_TIMEOUT)
        self._has_stalled = not ready
        if ready:
            super().emit(record)

    @property
    def stream(self) -> TextIO:
        """Standard error."""
        return self._stderr

    @stream.setter
    def stream(self, _: TextIO) -> None:
        """Ignore the stream that the base class would store."""


class _Formatter(logging.Formatter):
    """Escapes control characters in names of files, topics and models."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(one_line, super().format(record).split("\n")))


class _Plain(_Formatter):
    def __init__(self) -> None:
        super().__init__("fer-edge: %(message)s")


class _Journal(_Formatter):
    """Puts the syslog priority before each line (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(priority for level, priority in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
        }
        return json.dumps(entry, ensure_ascii=False)
