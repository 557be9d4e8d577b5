"""Reading a camera in its process: take the wanted frames, and open the camera again whenever frames stop.

Every frame is grabbed, so that none grows old in a buffer, but the device decodes only those that are wanted. When
frames stop or the device fails, it is closed and opened again after a delay. The delay doubles with each failure and is
randomized, so that many devices that lost one access point do not return in step.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.errors import FerEdgeError, SourceLostError, first_line
from fer_edge.utils.words import counted
from fer_edge_device.capture.channel import Failed, Online

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.capture.channel import FromCamera, Timeouts

_INTERVALS: Final = 5  # number of recent intervals between frames; their median is the camera's
_MAX_MISSED: Final = 4096  # times of frames that are kept to tell which of them were wanted: two minutes of them
_MAX_LEAKED: Final = 8  # descriptors that failed openings may leave open until a new process takes over


class CaptureDevice(Protocol):
    """A camera or stream as `CameraReader` uses it."""

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
        """Return the frame that was grabbed as a grey image of shape (rows, columns); None if it is damaged.

        The image is valid until the next call.

        Raises:
            SourceLostError: no frame of this device can be used.
        """
        ...

    def stop(self) -> None:
        """Release what may have caused a stall; `open` follows."""
        ...

    def close(self) -> None:
        """Release everything; does nothing if nothing is open."""
        ...


class Client(Protocol):
    """Who wants the frames; `fer_edge_device.capture.child.Link` documents the methods."""

    def expect(self, seconds: float) -> None: ...  # noqa: D102
    def send(self, message: FromCamera) -> None: ...  # noqa: D102
    def wait(self, seconds: float) -> None: ...  # noqa: D102
    def check(self) -> None: ...  # noqa: D102
    @property
    def wanted(self) -> bool: ...  # noqa: D102
    @property
    def not_before(self) -> float: ...  # noqa: D102
    def take_missed(self) -> bool: ...  # noqa: D102
    def note_frame(self, number: int, time: float) -> None: ...  # noqa: D102
    def give(self, gray: npt.NDArray[np.uint8], number: int, time: float, epoch: float, dropped: int) -> None: ...  # noqa: D102


class DescriptorCheck:
    """Tells when failed openings have left many descriptors open, as some drivers do."""

    def __init__(self) -> None:
        """Start before the first failure."""
        self._first: int | None = None

    def has_leaked(self) -> bool:
        """Return whether many more descriptors are open than at the first call; nothing must be open now."""
        count = sum(1 for _ in Path("/proc/self/fd").iterdir())
        if self._first is None:
            self._first = count
        return count > self._first + _MAX_LEAKED


class _StalledError(SourceLostError):
    """Raised when an open device gives no frames."""


class CameraReader:
    """Reads a device until its process is to end. Frames that are not wanted leave gaps in the frame numbers."""

    def __init__(
        self, source_name: str, source: str, device: CaptureDevice, timeouts: Timeouts, client: Client
    ) -> None:
        """Choose a device, without opening it.

        Args:
            source_name: names the source in messages; must hold no password.
            source: the source itself.
            device: the device.
            timeouts: how long to wait.
            client: who wants the frames.
        """
        self._name, self._source, self._device = source_name, source, device
        self._timeouts, self._client = timeouts, client
        self._leaks = DescriptorCheck()
        self._intervals: deque[float] = deque(maxlen=_INTERVALS)
        self._missed: deque[float] = deque(maxlen=_MAX_MISSED)  # times of frames that nobody waited for
        self._given_at: float | None = None  # time of the last frame that was given
        self._number = -1
        self._frames = 0  # since the device was opened
        self._first = self._last = 0.0  # times of the first and the latest of them

    def run(self, trial: float | None = None) -> None:
        """Read the device until frames stop for the first time, and open it again from then on.

        Args:
            trial: seconds until the first frame must have come; None: as long as a camera may stall or hang.

        Returns:
            When a new process should take over, because this one has leaked.

        Raises:
            FerEdgeError: it cannot be opened, or gave no first frame; it is closed then.
            EOFError: this process is to end.
        """
        delay = 0.0
        try:
            while True:
                failure = self._read_until_failure(trial)
                if self._number < 0:
                    raise failure
                # A device that gave frames for longer than the delay is not failing repeatedly.
                repeated = not self._frames or self._last - self._first <= delay
                delay = min(2 * delay, self._timeouts.max_delay) if repeated and delay else self._timeouts.min_delay
                pause = random.uniform(delay / 2, delay)  # noqa: S311 - not a secret
                self._client.send(Failed(str(failure), pause))
                self._client.wait(pause)
                if not self._frames and self._leaks.has_leaked():
                    return
        finally:
            self._release(stop_only=False)

    def _read_until_failure(self, trial: float | None) -> FerEdgeError:
        """Open the device and read it until it fails, and return the failure."""
        try:
            self._frames = 0
            trial_end = None if trial is None else time.monotonic() + trial
            self._expect(trial_end)
            self._device.open()
            self._grab_frames(trial_end)
        except FerEdgeError as error:
            # The traceback would keep the frame in memory until the garbage collector runs.
            failure = error.with_traceback(None)
        except EOFError:
            raise
        except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the caller must learn of it
            failure = SourceLostError(f"{self._name}: failed ({first_line(error)})")
        self._release(stop_only=isinstance(failure, _StalledError) and self._frames > 0)
        return failure

    def _expect(self, trial_end: float | None) -> None:
        """Set the time limit of the next call of the driver."""
        hang = self._timeouts.hang
        self._client.expect(hang if trial_end is None or self._number >= 0 else trial_end - time.monotonic())

    def _grab_frames(self, trial_end: float | None) -> None:
        """Grab frames until the device fails."""
        opened_at, damaged = time.monotonic(), 0
        while True:
            self._expect(trial_end)
            arrived, gray = self._device.grab(), None
            now, epoch = time.monotonic(), time.time()
            self._client.check()
            if self._client.take_missed() and self._given_at is not None:
                self._missed.append(self._given_at)
            # The first frame is always decoded, to see whether the frames can be decoded at all.
            waiting = self._client.wanted
            if arrived and ((waiting and self._is_wanted(now)) or not self._frames):
                gray = self._device.retrieve()
                arrived = gray is not None
                damaged = 0 if arrived else damaged + 1
            if not arrived:
                silence = now - (self._last if self._frames else opened_at)
                trial_is_over = trial_end is not None and self._number < 0 and now > trial_end
                if silence > self._timeouts.stall or trial_is_over:
                    but = f" but {counted(damaged, 'damaged one')}" if damaged else ""
                    raise _StalledError(f"{self._name}: gave no frame{but} for {silence:.1f} s")
                continue
            self._take(now)
            if gray is not None and waiting:
                self._client.give(gray, self._number, now, epoch - now, self._count_dropped())
                self._given_at = now
            elif not waiting:
                self._missed.append(now)

    def _take(self, now: float) -> None:
        """Count a frame."""
        if self._frames:
            self._intervals.append(now - self._last)
        else:
            self._first = now
        self._last = now
        self._frames += 1
        self._number += 1
        self._client.note_frame(self._number, now)
        if self._frames == 1:
            self._client.send(Online(self._source))

    def _count_dropped(self) -> int:
        """Return how many of the missed frames were wanted, and forget them."""
        # What came before the first frame was not missed: nobody had begun to read.
        dropped = 0 if self._given_at is None else sum(self._is_wanted(missed) for missed in self._missed)
        self._missed.clear()
        return dropped

    def _is_wanted(self, time: float) -> bool:
        """Return whether a frame is not too early: the one before it was further from the wanted time."""
        interval = sorted(self._intervals)[len(self._intervals) // 2] if self._intervals else 0.0
        return time >= self._client.not_before - interval / 2

    def _release(self, *, stop_only: bool) -> None:
        self._client.expect(self._timeouts.hang)
        with contextlib.suppress(Exception):  # a device that has failed may fail to close
            if stop_only:
                self._device.stop()
            else:
                self._device.close()
