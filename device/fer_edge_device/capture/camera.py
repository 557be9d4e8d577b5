"""A live source that can be closed, and opened again or for the first time, while its reader goes on.

This is the one place where a camera is switched off and on. A thread opens it, because that may take long and a driver
may hang; it tries again until the camera is there. Closing ends that thread, or the opened source, and `Camera.status`
says ``disabled`` only once no thread can have the device open any more.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from fer_edge.errors import FerEdgeError, SourceError, SourceLostError, first_line
from fer_edge_device.capture.base import NoFrameYet

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.capture.base import Frame
    from fer_edge_device.capture.supervisor import LiveSource
    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_READ_TIMEOUT: Final = 0.5  # seconds until `read` raises NoFrameYet while the camera is being opened
_CLOSED_POLL: Final = 0.1  # the same while it is closed: its caller may be about to open it
_CLOSE_TIMEOUT: Final = 2.0  # seconds for which `close` waits
_MIN_DELAY: Final = 0.5  # seconds before the camera is tried again for the first time
_MAX_DELAY: Final = 5.0


class Opening:
    """The opening of a camera, which can be ended at any moment, and everything that it has opened."""

    def __init__(self) -> None:
        """Begin to open; see `Camera`."""
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._sources: list[LiveSource] = []

    def add(self, source: LiveSource) -> None:
        """Add a source that is being opened, so that it is closed when this ends."""
        with self._lock:
            self._sources = [each for each in self._sources if not each.closed]
            self._sources.append(source)
            if self.ended.is_set():
                source.close(0.0)

    def end(self) -> None:
        """Let everything be closed, without waiting for it."""
        self.ended.set()
        with self._lock:
            for source in self._sources:
                source.close(0.0)

    @property
    def closed(self) -> bool:
        """Whether this has ended and nothing is open any more."""
        if not self.ended.is_set() or (self.thread and self.thread.is_alive()):
            return False
        with self._lock:
            return all(source.closed for source in self._sources)


class Camera:
    """A camera or stream that is opened when it is wanted. Frame numbers have no gap where it was closed."""

    live: Final = True

    def __init__(
        self,
        source_name: str,
        open_source: Callable[[Opening], LiveSource],
        *,
        give_up: float,
        hang: float,
        wait: bool = False,
    ) -> None:
        """Choose a camera, without opening it.

        Args:
            source_name: names the source in messages; must hold no password.
            open_source: opens it and waits for its first frame; raises a `FerEdgeError` if it cannot.
            give_up: seconds without a first frame until the source counts as lost.
            hang: seconds that closing may take until the source counts as lost: then only the end of the process can
                close the device.
            wait: whether `open` waits for the first frame, and fails without it.
        """
        self._name, self._open_source = source_name, open_source
        self._give_up, self._hang, self._wait = give_up, hang, wait
        self._changed = threading.Condition()
        self._opening: Opening | None = None
        self._ended: list[Opening] = []  # earlier openings that may not be closed yet
        self._since = time.monotonic()  # when `open` or `close` was called
        self._source: LiveSource | None = None
        self._failure: FerEdgeError | None = None
        self._next_number = 0
        self._number_shift: int | None = None

    @property
    def status(self) -> CameraStatus:
        """Whether frames arrive, the camera has not been found yet, or it is closed."""
        with self._changed:
            if self._source:
                return self._source.status
            if self._opening:
                return "offline"
            return "disabled" if self._is_closed() else "stalled"

    def open(self) -> None:
        """Begin to open the camera; does nothing if that was done before.

        Raises:
            SourceError: the camera was to be waited for, and cannot be opened.
        """
        if self._opening:
            return
        opening = Opening()
        if self._wait:
            self._source = self._open_source(opening)
        with self._changed:
            self._opening, self._since, self._failure = opening, time.monotonic(), None
        if self._source:
            return
        # A daemon: a driver that hangs must not keep the process from exiting.
        opening.thread = threading.Thread(target=self._run, args=(opening,), name="camera-opener", daemon=True)
        opening.thread.start()

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """Close the camera.

        Args:
            timeout: seconds to wait. If the driver takes longer, the device is closed when its call returns.
        """
        if self._opening:
            self._opening.end()
            with self._changed:
                self._ended.append(self._opening)
                self._opening = self._source = self._number_shift = None
                self._since = time.monotonic()
        deadline = time.monotonic() + timeout
        while not self._is_closed() and time.monotonic() < deadline:
            time.sleep(0.005)

    def read(self, not_before: float = 0.0) -> Frame:
        """Return the newest frame; wait a moment for it.

        Args:
            not_before: as for `FrameSource.read`.

        Raises:
            NoFrameYet: no frame arrived, or the camera is closed.
            SourceLostError: no frame arrived for a long time, or the driver hangs.
        """
        if not self._opening:
            self._check_closing()
            time.sleep(_CLOSED_POLL)
            raise NoFrameYet
        with self._changed:
            self._changed.wait_for(lambda: self._source, _READ_TIMEOUT)
            source, failure = self._source, self._failure
        if source is None:
            self._check_opening(failure)
            raise NoFrameYet
        frame = source.read(not_before)
        if self._number_shift is None:
            self._number_shift = self._next_number - frame.number
        frame = frame._replace(number=frame.number + self._number_shift)
        self._next_number = frame.number + 1
        return frame

    def _is_closed(self) -> bool:
        """Return whether nothing is open of earlier openings; the present one does not count."""
        with self._changed:
            self._ended = [opening for opening in self._ended if not opening.closed]
            return not self._ended

    def _check_closing(self) -> None:
        if not self._is_closed() and time.monotonic() - self._since >= self._hang:
            raise SourceLostError(
                f"{self._name}: cannot be switched off, because its driver hangs; the end of this process closes it"
            )

    def _check_opening(self, failure: FerEdgeError | None) -> None:
        waited = time.monotonic() - self._since
        if failure and waited >= self._give_up:  # what opens it has its own time-outs
            raise SourceLostError(f"{failure}; gave up after {waited:.0f} s") from failure

    def _run(self, opening: Opening) -> None:
        """Open the camera as soon as it is there; the body of the opening's thread."""
        while not self._is_closed():  # a device can be opened only once
            if opening.ended.wait(0.01):
                return
        start, delay = time.monotonic(), _MIN_DELAY
        while not opening.ended.is_set():
            try:
                source = self._open_source(opening)
            except FerEdgeError as error:
                failure = error.with_traceback(None)
            except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the caller must learn of it
                failure = SourceError(f"{self._name}: failed ({first_line(error)})")
            else:
                self._hand_over(opening, source, time.monotonic() - start)
                return
            self._record_failure(opening, failure, delay)
            opening.ended.wait(delay)
            delay = min(2 * delay, _MAX_DELAY)

    def _hand_over(self, opening: Opening, source: LiveSource, seconds: float) -> None:
        with self._changed:
            if self._opening is not opening:
                return
            found, self._failure = self._failure is not None, None
            self._source = source
            self._changed.notify_all()
        if found:
            logger.info("%s: gives frames after %.0f s", self._name, seconds)

    def _record_failure(self, opening: Opening, failure: FerEdgeError, delay: float) -> None:
        with self._changed:
            if self._opening is not opening:
                return
            repeated = self._failure is not None and str(self._failure) == str(failure)
            self._failure = failure
        logger.log(logging.DEBUG if repeated else logging.WARNING, "%s (trying again in %.1f s)", failure, delay)
