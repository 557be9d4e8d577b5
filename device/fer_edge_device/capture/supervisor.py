"""A live source under supervision: always the newest frame, and a new opening whenever frames stop.

A thread opens the device and grabs every frame, so that none grows old in a buffer. It asks the device to decode only
the frames that are read. When frames stop or the device fails, the thread closes the device and opens it again after a
delay. The delay doubles with each failure and is randomized, so that many devices that lost one access point do not
return in step.

A driver may also hang within a call. Such a thread cannot be ended from outside, and releasing a capture that a thread
is using would crash the process. So the thread is abandoned, and another one opens the device. An abandoned thread
closes its own device if its call ever returns. After a few hanging threads, or `Timeouts.give_up` seconds without a
frame, the source counts as lost: the process should exit and be restarted.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.errors import FerEdgeError, SourceError, SourceLostError, first_line
from fer_edge.utils.words import counted
from fer_edge_device.capture.base import Frame, NoFrameYet

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_READ_TIMEOUT: Final = 0.1  # seconds until `read` raises NoFrameYet, so that its caller can do other things
_CLOSE_TIMEOUT: Final = 2.0  # seconds in which the thread may end when the source is closed
_MAX_HUNG_THREADS: Final = 3
_INTERVALS: Final = 5  # number of recent intervals between frames; their median is the camera's
_MAX_MISSED: Final = 4096  # times of frames that are kept to tell which of them were wanted: two minutes of them


class CaptureDevice(Protocol):
    """A camera or stream as `LiveSource` uses it; all calls come from one thread."""

    def open(self) -> None:
        """Open the device, or open it again.

        Raises:
            SourceError: it cannot be opened.
        """
        ...

    def grab(self) -> bool:
        """Wait for the next frame and keep it undecoded; return False if none arrived for a moment.

        Raises:
            SourceLostError: the device failed.
        """
        ...

    def retrieve(self) -> npt.NDArray[np.uint8] | None:
        """Return the frame that was grabbed as a grey image of shape (rows, columns), a copy; None if it is damaged.

        Raises:
            SourceLostError: no frame of this device can be used.
        """
        ...

    def stop(self) -> None:
        """Release what may have caused a stall; `open` follows."""
        ...

    def close(self) -> None:
        """Release everything; harmless if nothing is open."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a live source waits, in seconds.

    Attributes:
        stall: without a frame, until the device is opened again.
        give_up: without a frame, until the source counts as lost.
        hang: within one call of the driver, until its thread is abandoned; longer than the device's own time-outs.
        min_delay: before the device is opened again for the first time.
        max_delay: before it is opened again after several failures.
    """

    stall: float
    give_up: float
    hang: float
    min_delay: float = 0.5
    max_delay: float = 30.0


class _StalledError(SourceLostError):
    """Raised when an open device gives no frames."""


class _Reader:
    """A thread and the device that belongs to it.

    Attributes:
        device: the device.
        thread: the thread; None before it starts.
        calling_since: when its present call of the driver started; None outside of a call.
        abandoned: whether another reader has replaced it.
        frames: number of frames since the device was opened.
        first: time of the first of them.
        last: time of the latest of them.
    """

    def __init__(self, device: CaptureDevice) -> None:
        self.device = device
        self.thread: threading.Thread | None = None
        self.calling_since: float | None = None
        self.abandoned = False
        self.frames = 0
        self.first = self.last = 0.0


class LiveSource:
    """Gives the newest frame of a device. Frames that are not wanted or not read leave gaps in the frame numbers."""

    live: Final = True

    def __init__(self, source_name: str, make_device: Callable[[], CaptureDevice], timeouts: Timeouts) -> None:
        """Start a thread that opens and reads the device.

        Args:
            source_name: names the source in messages; must hold no password.
            make_device: makes the device; called again only when a thread hangs in the present one.
            timeouts: how long to wait.
        """
        self._name, self._make_device = source_name, make_device
        self._timeouts = timeouts
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._frame: Frame | None = None
        self._frame_wanted = False
        self._not_before = 0.0
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._missed: deque[float] = deque(maxlen=_MAX_MISSED)  # times of frames that nobody waited for
        self._given = False
        self._number = -1
        self._online = False
        self._last_frame_at = time.monotonic()
        self._failure: FerEdgeError | None = None
        self._hung: list[_Reader] = []
        self._reader = self._start_reader()

    @property
    def status(self) -> CameraStatus:
        """Whether frames arrive."""
        with self._changed:
            fresh = time.monotonic() - self._last_frame_at <= self._timeouts.stall
            return "online" if self._online and fresh else "stalled"

    def wait_for_frame(self, timeout: float) -> None:
        """Wait for the first frame, without taking it.

        Args:
            timeout: seconds to wait.

        Raises:
            SourceError: the device cannot be opened, fails at once, gives no frame, or is closed meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._online or self._failure or self._closing.is_set(), timeout)
            if self._closing.is_set():
                raise SourceError(f"{self._name}: closed before its first frame")
            if self._online:
                return
            failure = self._failure
        raise SourceError(str(failure or self._no_frame_error(timeout))) from failure

    def read(self, not_before: float = 0.0) -> Frame:
        """Return the newest frame, decoded now; wait a moment for it.

        Args:
            not_before: as for `FrameSource.read`.

        Raises:
            NoFrameYet: no frame arrived.
            SourceLostError: no frame arrived for a long time, or the driver hangs again and again.
        """
        with self._changed:
            if self._frame and self._frame.number < self._number:
                self._missed.append(self._frame.time)
                self._frame = None  # it was decoded for an earlier call, which did not wait for it
            self._not_before, self._frame_wanted = not_before, self._frame is None
            self._changed.wait_for(lambda: self._frame, _READ_TIMEOUT)
            frame, self._frame = self._frame, None
            if frame is not None:
                return frame._replace(dropped=self._count_dropped(frame.time))
        self._supervise()
        raise NoFrameYet

    @property
    def closed(self) -> bool:
        """Whether every thread has ended, and has released its device."""
        readers = [self._reader, *self._hung]
        return self._closing.is_set() and not any(each.thread and each.thread.is_alive() for each in readers)

    def _count_dropped(self, time: float) -> int:
        """Return how many of the missed frames before a time were wanted. The lock must be held."""
        # What came before the first frame was not missed: nobody had begun to read.
        dropped = sum(self._is_wanted(missed) for missed in self._missed if missed < time) if self._given else 0
        later = [missed for missed in self._missed if missed > time]
        self._missed.clear()
        self._missed.extend(later)
        self._given = True
        return dropped

    def _is_wanted(self, time: float) -> bool:
        """Return whether a frame is not too early: the one before it was further from the wanted time."""
        interval = sorted(self._intervals)[len(self._intervals) // 2] if self._intervals else 0.0
        return time >= self._not_before - interval / 2

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Stop reading and release the device.

        Args:
            timeout: seconds to wait. If the driver takes longer, the device is released when its call returns.
        """
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._reader.thread:
            self._reader.thread.join(timeout)

    def _start_reader(self) -> _Reader:
        reader = _Reader(self._make_device())
        # A daemon: a driver that hangs must not keep the process from exiting.
        reader.thread = threading.Thread(target=self._run, args=(reader,), name="camera", daemon=True)
        reader.thread.start()
        return reader

    def _supervise(self) -> None:
        """Give up, or replace a reader that hangs, if it is time to."""
        now = time.monotonic()
        with self._changed:
            silence, failure = now - self._last_frame_at, self._failure
            calling_since = self._reader.calling_since
        if silence >= self._timeouts.give_up:
            raise self._no_frame_error(silence) from failure
        if calling_since is None or now - calling_since < self._timeouts.hang:
            return
        self._hung = [reader for reader in self._hung if reader.thread and reader.thread.is_alive()]
        if len(self._hung) >= _MAX_HUNG_THREADS:
            raise SourceLostError(f"{self._name}: the driver hangs again and again; is it unplugged?") from failure
        failure = SourceLostError(f"{self._name}: the driver hangs")
        logger.warning("%s (opening it again in another thread)", failure)
        with self._changed:
            self._reader.abandoned = True
            self._online, self._failure = False, failure
        self._hung.append(self._reader)
        self._reader = self._start_reader()

    def _no_frame_error(self, seconds: float) -> SourceLostError:
        return SourceLostError(f"{self._name}: gave no frame for {seconds:.3g} s; is it unplugged or in use?")

    def _must_end(self, reader: _Reader) -> bool:
        return reader.abandoned or self._closing.is_set()

    def _run(self, reader: _Reader) -> None:
        """Keep the device open until the reader must end; the body of its thread."""
        delay = 0.0
        while True:
            failure = self._read_until_failure(reader)
            if failure is None:
                break
            # A device that gave frames for longer than the delay is not failing repeatedly.
            repeated = not reader.frames or reader.last - reader.first <= delay
            delay = min(2 * delay, self._timeouts.max_delay) if repeated and delay else self._timeouts.min_delay
            pause = random.uniform(delay / 2, delay)  # noqa: S311 - not a secret
            self._record_failure(reader, failure, pause)
            if self._closing.wait(pause) or reader.abandoned:
                break
        self._release(reader, stop_only=False)

    def _read_until_failure(self, reader: _Reader) -> FerEdgeError | None:
        """Open the device and read it until it fails, and return the failure; None if the reader must end."""
        failure: FerEdgeError | None = None
        try:
            reader.frames = 0
            reader.calling_since = time.monotonic()
            reader.device.open()
            self._grab_frames(reader)
        except FerEdgeError as error:
            # The traceback would keep the frame in memory until the garbage collector runs.
            failure = error.with_traceback(None)
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the caller must learn of it
            failure = SourceLostError(f"{self._name}: failed ({first_line(error)})")
        if failure and not self._must_end(reader):
            self._release(reader, stop_only=isinstance(failure, _StalledError) and reader.frames > 0)
        return None if self._must_end(reader) else failure

    def _grab_frames(self, reader: _Reader) -> None:
        opened_at, damaged = time.monotonic(), 0
        while not self._must_end(reader):
            reader.calling_since = time.monotonic()
            arrived, gray = reader.device.grab(), None
            now, epoch = time.monotonic(), time.time()
            # The first frame is always decoded, to see whether the frames can be decoded at all.
            waiting = self._frame_wanted
            if arrived and ((waiting and self._is_wanted(now)) or not reader.frames):
                gray = reader.device.retrieve()
                arrived = gray is not None
                damaged = 0 if arrived else damaged + 1
            if not arrived:
                silence = now - (reader.last if reader.frames else opened_at)
                if silence > self._timeouts.stall:
                    but = f" but {counted(damaged, 'damaged one')}" if damaged else ""
                    raise _StalledError(f"{self._name}: gave no frame{but} for {silence:.1f} s")
                continue
            with self._changed:
                if reader.abandoned:
                    return
                if reader.frames:
                    self._intervals.append(now - reader.last)
                reader.first, reader.last = reader.first if reader.frames else now, now
                reader.frames += 1
                self._number += 1
                if gray is None and not waiting:
                    self._missed.append(now)
                if gray is not None:
                    self._hand_over(Frame(gray, now, self._number, epoch - now))
                self._last_frame_at = now

    def _hand_over(self, frame: Frame) -> None:
        """Give a frame to `read`. The lock must be held."""
        if self._failure:
            logger.info("%s: gives frames again after %.0f s", self._name, frame.time - self._last_frame_at)
        self._frame, self._frame_wanted = frame, False
        self._online, self._failure = True, None
        self._changed.notify_all()

    def _record_failure(self, reader: _Reader, failure: FerEdgeError, pause: float) -> None:
        reader.calling_since = None
        with self._changed:
            level = logging.WARNING if self._online else logging.INFO
            self._online, self._failure = False, failure
            self._changed.notify_all()
        if self._number >= 0:  # if the first opening fails, `wait_for_frame` raises instead
            logger.log(level, "%s (opening it again in %.1f s)", failure, pause)

    @staticmethod
    def _release(reader: _Reader, *, stop_only: bool) -> None:
        reader.calling_since = time.monotonic()
        with contextlib.suppress(Exception):  # a device that has failed may fail to close
            if stop_only:
                reader.device.stop()
            else:
                reader.device.close()
