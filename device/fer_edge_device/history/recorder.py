"""Record what a runner publishes: count it by the minute, and write it from a thread of its own."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time as clock
from collections import deque
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError, printable
from fer_edge.quality import UNCLEAR
from fer_edge.utils.words import counted
from fer_edge_device.history.database import HistoryDatabase
from fer_edge_device.history.rows import PastEvent, Period
from fer_edge_device.messages import Event, State

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.config.settings import HistorySettings
    from fer_edge_device.messages import Kind, Message

logger = logging.getLogger(__name__)

_MINUTE_S: Final = 60
_DELAY_S: Final = 0.1  # after a minute, until it is written
_MAX_EVENTS: Final = 10_000  # in memory, while the disk takes none
_MAX_MINUTES: Final = 1_440
_CLOSE_S: Final = 5.0  # seconds for the disk when the run ends


class HistoryRecorder:
    """Keeps states by the minute, and events; an observer of a runner.

    The disk is written once a minute, so that a memory card lasts: a power cut loses at most the present minute.
    """

    def __init__(self, path: Path, settings: HistorySettings, *, live: bool) -> None:
        """Open the file and start the thread.

        Args:
            path: the SQLite file.
            settings: how much may be kept.
            live: whether the times of messages are seconds since 1970; those of a video are not, and the present time
                takes their place.

        Raises:
            InputError: the file cannot be created, or belongs to another program.
        """
        self._database = HistoryDatabase(path, settings)
        logger.info("the history is kept in %s", printable(str(path)))
        self._path, self._live = path, live
        self._statuses: dict[Kind, str] = {"camera": "", "enabled/state": ""}
        self._state: State | None = None
        self._changed = threading.Condition()
        self._minutes: deque[Period] = deque(maxlen=_MAX_MINUTES)
        self._events: deque[PastEvent] = deque(maxlen=_MAX_EVENTS)
        self._counted_until = clock.monotonic()
        self._problem = ""
        self._closing = False
        # A daemon: a disk that hangs must not keep the process from exiting.
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)
        self._thread.start()

    def observe(self, *messages: Message) -> None:
        """Take over what is to be kept; never wait for the disk."""
        with self._changed:
            self._count()
            for message in messages:
                for kind in self._statuses:
                    if message.is_of(kind):
                        self._statuses[kind] = str(message.payload)
                if isinstance(message.payload, State):
                    self._state = message.payload
                    if self._watching:
                        minute = self._minute_at(clock.time())
                        minute.max_faces = max(minute.max_faces, message.payload.faces)
                elif isinstance(message.payload, Event):
                    self._add_event(message.payload)

    def close(self) -> None:
        """Write what is there, and close the file."""
        with self._changed:
            self._count()
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._database.close()

    @property
    def _watching(self) -> bool:
        return self._statuses == {"camera": "online", "enabled/state": "ON"}

    def _count(self) -> None:
        """Add the time since the last message to its minutes."""
        now, until = clock.time(), clock.monotonic()
        seconds, self._counted_until = until - self._counted_until, until
        if not self._watching:
            return
        begin = now - seconds
        while begin < now:
            minute = self._minute_at(begin)
            end = min(minute.start + _MINUTE_S, now)
            part = Period(minute.start, observed_s=end - begin)
            if self._state:
                part.face_s = self._state.faces * part.observed_s
                part.max_faces = self._state.faces
                shown = self._state.counts | ({UNCLEAR: self._state.unclear} if self._state.unclear else {})
                part.emotion_s = {name: count * part.observed_s for name, count in shown.items()}
            minute.add(part)
            begin = end

    def _minute_at(self, time: float) -> Period:
        start = int(time // _MINUTE_S) * _MINUTE_S
        if not self._minutes or self._minutes[-1].start != start:
            self._minutes.append(Period(start))
        return self._minutes[-1]

    def _add_event(self, event: Event) -> None:
        if event.event_type == "new":
            self._minute_at(clock.time()).new_faces += 1
        x, y, width, height = event.box
        self._events.append(
            PastEvent(
                time=event.time if self._live else round(clock.time(), 3),
                event_type=event.event_type,
                id=event.id,
                emotion=event.emotion,
                score=event.score,
                previous=event.previous,
                duration_s=event.duration_s,
                x=x,
                y=y,
                width=width,
                height=height,
                model=event.model,
                reliable=event.reliable,
                scores={label: round(score, 3) for label, score in event.scores.items()},
            )
        )

    def _run(self) -> None:
        """Write each minute when it is over, and what is left at the end."""
        closing = False
        while not closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing, _MINUTE_S - clock.time() % _MINUTE_S + _DELAY_S)
                self._count()
                closing = self._closing
                over = int(clock.time() // _MINUTE_S) * _MINUTE_S
                minutes = [each for each in self._minutes if closing or each.start < over or each.start > over]
                events = [*self._events]
            if not (minutes or events):
                continue
            try:
                self._database.write(minutes, events)
            except (sqlite3.Error, OSError, InputError) as error:
                self._report(str(error))
                continue
            self._report("")
            with self._changed:
                for done in minutes:
                    self._minutes.remove(done)
                for event in events:
                    if self._events and self._events[0] is event:
                        self._events.popleft()

    def _report(self, problem: str) -> None:
        """Log a problem once, and its end."""
        if problem != self._problem:
            if problem:
                logger.warning(
                    "%s: cannot be written (%s); %s and at most a day of states wait in memory",
                    self._path,
                    problem,
                    counted(_MAX_EVENTS, "event"),
                )
            else:
                logger.info("%s: can be written again", self._path)
            self._problem = problem
