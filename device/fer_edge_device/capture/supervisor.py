"""A live source under supervision: its newest frame, and another opening whenever frames stop.

A thread of its own opens the device and grabs its frames, all of them, so that none grows old in
a buffer; it decodes only those that somebody asks for.  When frames stop or the device fails, the
thread closes it and opens it again, after a delay that doubles with each failure and is never
quite the same, so that many devices that lost one access point do not come back in step.

A driver may also hang within a call.  No thread can be ended from outside, and taking the capture
away from a thread that is inside it would crash the process.  Such a thread is abandoned where it
is, and another one opens the device afresh; the abandoned one closes its own capture if it ever
comes back.  That is done a few times at most: then, as after `Timeouts.give_up` seconds without
any frame, the source counts as lost, and the process is to end and to be started clean.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.errors import FerEdgeError, SourceError, SourceLostError, first_line
from fer_edge_device.capture.base import Frame, NoFrameYet

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_MOMENT: Final = 0.5  # seconds a reader is kept waiting before it may look at other things
_FAREWELL: Final = 2.0  # seconds that closing waits for the thread
_MOST_HUNG: Final = 3  # threads that hang in a driver


class CaptureDevice(Protocol):
    """A camera or stream as `LiveSource` handles it; a thread of its own makes all these calls."""

    def open(self) -> None:
        """Open it, or open it again.

        Raises:
            SourceError: it cannot be opened.
        """
        ...

    def grab(self) -> bool:
        """Wait for the next frame and keep it undecoded; False when none came for a moment.

        Raises:
            SourceLostError: it failed.
        """
        ...

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """The frame that was grabbed, grey, of shape (rows, columns), in memory of its own; None if it is damaged.

        Raises:
            SourceLostError: no frame of it can be used.
        """
        ...

    def stop(self) -> None:
        """Let go of what a stall may have to do with; `open` follows."""
        ...

    def close(self) -> None:
        """Let go of everything; harmless when nothing is open."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long is waited for what, in seconds.

    Attributes:
        stall: without a frame, until the device is opened again.
        give_up: without a frame, until the source counts as lost.
        hang: within one call of the driver, until its thread is abandoned; longer than the device's own time-outs.
        shortest_delay: before the first new opening.
        longest_delay: before any other; a source that is back is found again after this long at the latest.
    """

    stall: float
    give_up: float
    hang: float
    shortest_delay: float = 0.5
    longest_delay: float = 30.0


class _StalledError(SourceLostError):
    """Raised when a device that works gives no frames."""


class _Reader:
    """A thread and the device that is its own.

    Attributes:
        device: what it reads.
        thread: None before it runs.
        calling_since: when its call of the driver began; None while it is in none.
        abandoned: whether another has taken its place.
        frames: that came since the last opening.
        first: when the first of them came.
        last: when the last of them came.
    """

    def __init__(self, device: CaptureDevice) -> None:
        self.device = device
        self.thread: threading.Thread | None = None
        self.calling_since: float | None = None
        self.abandoned = False
        self.frames = 0
        self.first = self.last = 0.0


class LiveSource:
    """Gives the newest frame of a device; the older ones are dropped, and frame numbers tell how many."""

    live: Final = True

    def __init__(self, name: str, make_device: Callable[[], CaptureDevice], patience: Timeouts) -> None:
        """Start opening the device, and reading it.

        Args:
            name: for messages; nothing secret.
            make_device: gives the device; again only when a thread hangs in the one before.
            patience: how long is waited for what.
        """
        self._name, self._make_device = name, make_device
        self._patience = patience
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._frame: Frame | None = None
        self._wanted = False
        self._number = -1
        self._online = False
        self._last = time.monotonic()
        self._trouble: FerEdgeError | None = None
        self._hung: list[_Reader] = []
        self._reader = self._start()

    @property
    def status(self) -> CameraStatus:
        """Whether frames come."""
        with self._changed:
            fresh = time.monotonic() - self._last <= self._patience.stall
            return "online" if self._online and fresh else "stalled"

    def wait(self, seconds: float) -> None:
        """Wait for a first frame, without taking it.

        Raises:
            SourceError: it cannot be opened, fails at once, or gives no frame.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._online or self._trouble, seconds)
            if self._online:
                return
            trouble = self._trouble
        raise SourceError(str(trouble or self._silent(seconds))) from trouble

    def read(self) -> Frame:
        """The newest frame, decoded now; waits for one, a moment.

        Raises:
            NoFrameYet: none came.
            SourceLostError: none came for long, or the driver hangs time and again.
        """
        with self._changed:
            if self._frame and self._frame.number < self._number:
                self._frame = None  # decoded for somebody who did not wait
            self._wanted = self._frame is None
            self._changed.wait_for(lambda: self._frame, _MOMENT)
            frame, self._frame = self._frame, None
        if frame is None:
            self._supervise()
            raise NoFrameYet
        return frame

    def close(self) -> None:
        """Stop reading and let go of the device; a driver that hangs is left behind."""
        self._closing.set()
        if self._reader.thread:
            self._reader.thread.join(_FAREWELL)

    def _start(self) -> _Reader:
        reader = _Reader(self._make_device())
        # A daemon, because a driver that hangs must not keep the process from ending.
        reader.thread = threading.Thread(target=self._work, args=(reader,), name="camera", daemon=True)
        reader.thread.start()
        return reader

    def _supervise(self) -> None:
        """Give up, or abandon a thread that hangs, when it is time to."""
        now = time.monotonic()
        with self._changed:
            silence, trouble = now - self._last, self._trouble
            since = self._reader.calling_since
        if silence >= self._patience.give_up:
            raise self._silent(silence) from trouble
        if since is None or now - since < self._patience.hang:
            return
        self._hung = [reader for reader in self._hung if reader.thread and reader.thread.is_alive()]
        if len(self._hung) >= _MOST_HUNG:
            raise SourceLostError(f"{self._name}: the driver hangs, time and again; is it unplugged?") from trouble
        trouble = SourceLostError(f"{self._name}: the driver hangs")
        logger.warning("%s (opening it afresh)", trouble)
        with self._changed:
            self._reader.abandoned = True
            self._online, self._trouble = False, trouble
        self._hung.append(self._reader)
        self._reader = self._start()

    def _silent(self, seconds: float) -> SourceLostError:
        return SourceLostError(f"{self._name}: gave no frame for {seconds:.3g} s; is it unplugged or in use?")

    def _ended(self, reader: _Reader) -> bool:
        return reader.abandoned or self._closing.is_set()

    def _work(self, reader: _Reader) -> None:
        delay = 0.0
        while True:
            trouble = self._follow(reader)
            if trouble is None:
                break
            # What gave frames for longer than it was left alone is not failing time and again.
            failing = not reader.frames or reader.last - reader.first <= delay
            delay = min(2 * delay, self._patience.longest_delay) if failing and delay else self._patience.shortest_delay
            pause = random.uniform(delay / 2, delay)  # noqa: S311 - no secret
            self._note(reader, trouble, pause)
            if self._closing.wait(pause) or reader.abandoned:
                break
        self._let_go(reader, for_good=True)

    def _follow(self, reader: _Reader) -> FerEdgeError | None:
        """Open the device and read it until it fails, and say how; None when the reading is to end."""
        trouble: FerEdgeError | None = None
        try:
            reader.frames = 0
            reader.calling_since = time.monotonic()
            reader.device.open()
            self._grab_all(reader)
        except FerEdgeError as error:
            # Its traceback holds the frame, and would until the garbage collector comes by.
            trouble = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - whatever a driver raises must reach the reader
            trouble = SourceLostError(f"{self._name}: failed ({first_line(error)})")
        if trouble and not self._ended(reader):
            self._let_go(reader, for_good=not (isinstance(trouble, _StalledError) and reader.frames))
        return None if self._ended(reader) else trouble

    def _grab_all(self, reader: _Reader) -> None:
        opened, damaged = time.monotonic(), 0
        while not self._ended(reader):
            reader.calling_since = time.monotonic()
            came, gray = reader.device.grab(), None
            now, epoch = time.monotonic(), time.time()
            # The first frame after an opening shows whether what comes can be decoded at all.
            if came and (self._wanted or not reader.frames):
                gray = reader.device.retrieve()
                came = gray is not None
                damaged = 0 if came else damaged + 1
            if not came:
                silence = now - (reader.last if reader.frames else opened)
                if silence > self._patience.stall:
                    but = f" but {damaged} that cannot be decoded" if damaged else ""
                    raise _StalledError(f"{self._name}: gave no frame{but} for {silence:.1f} s")
                continue
            with self._changed:
                if reader.abandoned:
                    return
                reader.first, reader.last = reader.first if reader.frames else now, now
                reader.frames += 1
                self._number += 1
                if gray is not None:
                    self._give(Frame(gray, now, self._number, epoch - now))
                self._last = now

    def _give(self, frame: Frame) -> None:
        """Hand a frame to whoever waits; the lock is held."""
        if self._trouble:
            logger.info("%s: gives frames again after %.0f s", self._name, frame.time - self._last)
        self._frame, self._wanted = frame, False
        self._online, self._trouble = True, None
        self._changed.notify_all()

    def _note(self, reader: _Reader, trouble: FerEdgeError, pause: float) -> None:
        reader.calling_since = None
        with self._changed:
            level = logging.WARNING if self._online else logging.INFO
            self._online, self._trouble = False, trouble
            self._changed.notify_all()
        if self._number >= 0:  # a first opening that fails is an error, not a thing to try again
            logger.log(level, "%s (opening it again in %.1f s)", trouble, pause)

    @staticmethod
    def _let_go(reader: _Reader, *, for_good: bool) -> None:
        reader.calling_since = time.monotonic()
        with contextlib.suppress(Exception):  # what has failed may well fail to close
            if for_good:
                reader.device.close()
            else:
                reader.device.stop()
