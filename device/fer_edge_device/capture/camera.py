"""A camera that can be opened, closed and opened again while its reader continues.

A process of its own calls the driver (`fer_edge_device.capture.process`). Here it is started, watched and ended: when a
call of the driver takes too long, the process is killed, and another one opens the camera. So the reader never waits
for a driver. `Camera.status` says ``disabled`` only once no process can have the device open any more.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.errors import FerEdgeError, SourceError, SourceLostError
from fer_edge_device.capture.base import Frame, NoFrameYet
from fer_edge_device.capture.channel import Failed, Given, Online, Task, Trying
from fer_edge_device.capture.process import CameraProcess
from fer_edge_device.capture.source_name import display_name

if TYPE_CHECKING:
    from fer_edge_device.capture.channel import FromCamera, Timeouts
    from fer_edge_device.config.settings import CameraSettings
    from fer_edge_device.messages import CameraStatus

logger = logging.getLogger(__name__)

_READ_TIMEOUT: Final = 0.1  # seconds until `read` raises NoFrameYet, so that its caller can do other things
_OPENING_TIMEOUT: Final = 0.5  # the same while the camera is opened for the first time
_LOGGERS: Final = ("", "fer_edge_device", "picamera2", "libcamera")  # whose levels the process needs


class Camera:
    """A camera or stream that can be opened and closed. Frame numbers have no gap where it was closed.

    Not thread-safe.
    """

    live: Final = True

    def __init__(
        self, settings: CameraSettings, timeouts: Timeouts, *, may_shrink: bool = False, wait: bool = False
    ) -> None:
        """Choose a camera, without opening it.

        Args:
            settings: the camera.
            timeouts: how long to wait.
            may_shrink: as for `fer_edge_device.capture.opencv.V4l2Camera`.
            wait: whether `open` waits for the first frame, and fails without it.
        """
        self._name = display_name(settings.source)
        self._first_task = Task(settings=settings, timeouts=timeouts, may_shrink=may_shrink)
        self._task = self._first_task
        self._timeouts, self._wait = timeouts, wait
        self._process: CameraProcess | None = None
        self._unkillable: list[CameraProcess] = []  # killed processes that a driver keeps in the kernel
        self._kernel_hang_logged = False
        self._wanted = False
        self._next_number = 0
        self._forget()

    def _forget(self) -> None:
        """Begin to open the camera as if for the first time."""
        self._task = self._first_task
        self._since = self._last_frame_at = time.monotonic()
        self._online = False
        self._failure: FerEdgeError | None = None  # since frames arrived last
        self._start_at, self._delay = 0.0, 0.0
        self._forget_process()

    def _forget_process(self) -> None:
        """Forget what the current process has sent."""
        self._process = None
        self._trying: Trying | None = None
        self._requested = False
        self._given: Given | None = None
        self._number_shift: int | None = None
        self._online_since = 0.0

    @property
    def status(self) -> CameraStatus:
        """Whether frames arrive, the camera has not been found yet, or it is closed."""
        self._update()
        if not self._wanted:
            return "disabled" if self._is_closed() else "stalled"
        if not self._task.has_given_frames:
            return "offline"
        fresh = time.monotonic() - self._last_frame_at <= self._timeouts.stall
        return "online" if self._online and fresh else "stalled"

    def open(self) -> None:
        """Begin to open the camera; does nothing if that was done before.

        Raises:
            SourceError: the camera was to be waited for, and cannot be opened.
        """
        if self._wanted:
            return
        self._forget()
        self._wanted = True
        if not self._wait:
            self._update()
            return
        try:
            while not self._task.has_given_frames:
                self._update()
                self._raise_failure()
                self._pause()
        except BaseException:  # also Ctrl-C
            self.close()
            raise

    def _raise_failure(self) -> None:
        if self._failure:
            raise self._failure

    def close(self) -> None:
        """Close the camera. If its driver hangs, its process is killed."""
        self._wanted = False
        self._end_process()
        self._forget()

    def read(self, not_before: float = 0.0) -> Frame:
        """Return the newest frame; wait a moment for it.

        Args:
            not_before: as for `FrameSource.read`.

        Returns:
            A frame whose image is read-only, and valid until the next call.

        Raises:
            NoFrameYet: no frame arrived, or the camera is closed.
            SourceLostError: no frame arrived for a long time.
        """
        if self._process:
            self._process.set_not_before(not_before)
        self._update()
        self._request()
        opening = self._wanted and not self._task.has_given_frames
        end = time.monotonic() + (_OPENING_TIMEOUT if opening else _READ_TIMEOUT)
        while True:
            if frame := self._take():
                return frame
            self._check_silence()
            if (left := end - time.monotonic()) <= 0:
                raise NoFrameYet
            self._pause(left)
            self._update()
            if self._given is None:
                self._request()

    def _pause(self, seconds: float = _READ_TIMEOUT) -> None:
        """Wait for a message of the process."""
        if self._process:
            self._process.wait(seconds)
        else:
            time.sleep(seconds)

    def _request(self) -> None:
        """Ask for a frame, unless one is on its way or has come while we waited for it."""
        process, given = self._process, self._given
        if process is None or self._requested or (given and given.number == process.newest_number):
            return
        self._given, self._requested = None, True
        process.request(missed=given is not None)

    def _take(self) -> Frame | None:
        """Return the frame that was asked for; None if it has not come yet."""
        process, given = self._process, self._given
        if process is None or given is None:
            return None
        self._given = None
        if self._number_shift is None:
            self._number_shift = self._next_number - given.number
        number = given.number + self._number_shift
        self._next_number = number + 1
        return Frame(process.view(given), given.time, number, given.epoch, given.dropped)

    def _update(self) -> None:
        """Handle the messages of the process, and start one if the camera is to be open and there is none."""
        if not self._wanted:
            self._check_closing()
            return
        now = time.monotonic()
        if self._process is None:
            if now >= self._start_at and self._is_closed():  # a device can be opened only once
                self._start()
            return
        process = self._process
        for message in process.messages():
            self._handle(message)
            if self._process is not process:
                return
        self._last_frame_at = max(self._last_frame_at, process.newest_time)
        if process.ended:
            self._replace_ended()
        elif process.hangs:
            self._replace_hanging()

    def _start(self) -> None:
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in _LOGGERS}
        try:
            self._process = CameraProcess(msgspec.structs.replace(self._task, log_levels=levels))
        except SourceError as error:
            self._fail(f"{self._name}: {error}", self._next_delay())

    def _handle(self, message: FromCamera) -> None:
        if isinstance(message, Given):
            self._given, self._requested = message, False
        elif isinstance(message, Trying):
            self._trying = message
        elif isinstance(message, Failed):
            self._trying = None
            self._fail(message.failure, message.delay)
        elif isinstance(message, Online):
            self._handle_online(message)

    def _handle_online(self, message: Online) -> None:
        now = time.monotonic()
        if self._failure:
            again, since = (" again", self._last_frame_at) if self._task.has_given_frames else ("", self._since)
            logger.info("%s: gives frames%s after %.0f s", self._name, again, now - since)
        self._trying, self._failure, self._online = None, None, True
        self._online_since = self._last_frame_at = now
        settings = self._task.settings
        if settings is not None:  # if it was found by trying, it is this one from now on
            settings = msgspec.structs.replace(settings, source=message.source)
        self._task = msgspec.structs.replace(self._task, settings=settings, has_given_frames=True, skipped={})

    def _fail(self, text: str, delay: float) -> None:
        """Record that the camera could not be opened or has failed, and is opened again after a delay."""
        failure = (SourceLostError if self._task.has_given_frames else SourceError)(text)
        if self._task.has_given_frames:
            level, action = (logging.WARNING if self._online else logging.INFO), "opening it"
        else:
            repeated = self._failure is not None and str(self._failure) == str(failure)
            level, action = (logging.DEBUG if repeated else logging.WARNING), "trying"
        self._failure, self._online = failure, False
        if not (self._wait and not self._task.has_given_frames):  # then `open` raises it
            logger.log(level, "%s (%s again in %.1f s)", failure, action, delay)

    def _next_delay(self) -> float:
        """Return the delay before another process may be started."""
        gave_frames = self._online and self._last_frame_at - self._online_since > self._delay
        timeouts = self._timeouts
        max_delay = timeouts.max_delay if self._task.has_given_frames else timeouts.max_first_delay
        self._delay = min(2 * self._delay, max_delay) if self._delay and not gave_frames else timeouts.min_delay
        self._start_at = time.monotonic() + self._delay
        return self._delay

    def _replace_ended(self) -> None:
        """Let another process take over from one that has ended."""
        process = self._end_process()
        if process and (reason := process.exit_reason()) != "status 0":  # such a process asks to be replaced
            self._fail(f"{self._name}: the camera's process ended ({reason})", self._next_delay())

    def _replace_hanging(self) -> None:
        """Kill a process in which a driver hangs, or that does not start, and let another one take over."""
        trying, settings = self._trying, self._task.settings
        failure = "the driver hangs"
        if self._process:
            if self._process.is_starting:
                failure = "the camera's process does not start in time; this machine is too busy"
            self._process.kill()
        self._end_process()
        if trying and settings and settings.source == "auto":  # there may be other cameras
            self._task = msgspec.structs.replace(
                self._task, skipped=self._task.skipped | {trying.candidate: trying.failure}
            )
            logger.warning("%s (trying another camera)", trying.failure)
            return
        self._fail(trying.failure if trying else f"{self._name}: {failure}", self._next_delay())

    def _end_process(self) -> CameraProcess | None:
        process = self._process
        if process is not None:
            process.end()
            if not process.is_gone:
                self._unkillable.append(process)
            self._forget_process()
        return process

    def _is_closed(self) -> bool:
        """Return whether no earlier process is left."""
        self._unkillable = [process for process in self._unkillable if not process.is_gone]
        if not self._unkillable:
            self._kernel_hang_logged = False
        return not self._unkillable

    def _check_closing(self) -> None:
        """Log a warning if the camera cannot be closed."""
        if not self._is_closed() and not self._kernel_hang_logged:
            self._kernel_hang_logged = True
            logger.error("%s: cannot be switched off: %s", self._name, self._describe_kernel_hang())

    def _describe_kernel_hang(self) -> str:
        numbers = ", ".join(str(process.number) for process in self._unkillable)
        return f"its driver hangs in the kernel (process {numbers}); unplug the camera, or restart the machine"

    def _check_silence(self) -> None:
        """Give up if there was no frame for a long time."""
        if not self._wanted:
            return
        silence = time.monotonic() - self._last_frame_at
        if silence < self._timeouts.give_up:
            return
        if not self._is_closed():
            raise SourceLostError(f"{self._name}: {self._describe_kernel_hang()}")
        if self._task.has_given_frames:
            raise no_frame_error(self._name, silence) from self._failure
        if self._failure:  # before the first failure, each call of a driver has a limit of its own
            raise SourceLostError(f"{self._failure}; gave up after {silence:.0f} s") from self._failure


def no_frame_error(name: str, seconds: float) -> SourceLostError:
    """Return the error for a camera that gives no frames."""
    return SourceLostError(f"{name}: gave no frame for {seconds:.3g} s; is it unplugged or in use?")
