"""The frame, and the protocol of everything that gives frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.messages import CameraStatus


class NoFrameYet(Exception):  # noqa: N818 - not a failure
    """Raised when a source has no new frame at the moment; read again."""


class Frame(NamedTuple):
    """One image of a source.

    Attributes:
        gray: uint8 image of shape (rows, columns), read-only; of a live source, valid until its next frame is read.
        time: seconds on a clock that never jumps: within a video, or since an arbitrary start for a live source.
        number: counts from 0; a gap means that frames were not given.
        epoch: for a live source, what to add to ``time`` to get seconds since 1970; for a video 0.
        dropped: number of frames in the gap before this one that were wanted but could not be taken in time.
    """

    gray: npt.NDArray[np.uint8]
    time: float
    number: int
    epoch: float = 0.0
    dropped: int = 0


class FrameSource(Protocol):
    """Gives frames. `fer_edge_device.capture.factory.open_source` opens one."""

    @property
    def live(self) -> bool:
        """Whether frames that are not read in time are lost."""
        ...

    @property
    def status(self) -> CameraStatus:
        """``online`` while frames arrive, ``stalled`` while they should but do not.

        Of a `SwitchableSource` also ``offline`` until it could be opened, and ``disabled`` while it is closed.
        """
        ...

    def read(self, not_before: float = 0.0) -> Frame | None:
        """Return the next frame; None after the last.

        Args:
            not_before: when the next frame of a live source is wanted, on the clock of its frames; earlier frames are
                skipped. Of two frames around this time, the nearer one is given. Other sources give every frame.

        Raises:
            NoFrameYet: there is no new frame at the moment; read again.
            SourceLostError: the source has failed for good.
        """
        ...

    def close(self) -> None:
        """Release the device or file."""
        ...


class SwitchableSource(FrameSource, Protocol):
    """A source that can be opened and closed; while it is closed, `read` raises `NoFrameYet`.

    `fer_edge_device.capture.factory.make_source` makes one.
    """

    def open(self) -> None:
        """Begin to open the device; does nothing if it is open.

        Raises:
            SourceError: the device cannot be opened, and is not to be tried again.
        """
        ...


class Pace:
    """Says when the next frame of a live source is wanted, so that the rate is right on average.

    Frames come when the camera takes them, some before and some after the wanted time. So that these differences do not
    add up, each wanted time follows from the one before rather than from the frame's.
    """

    def __init__(self) -> None:
        """Start before the first frame."""
        self._wanted_at = 0.0

    def next_time(self, interval: float) -> float:
        """Return when the next frame is wanted.

        Args:
            interval: mean time between two frames, in seconds.
        """
        return self._wanted_at + interval

    def take(self, time: float, interval: float) -> None:
        """Take a frame.

        Args:
            time: time of the frame.
            interval: as for `next_time`.
        """
        self._wanted_at += interval
        if abs(time - self._wanted_at) >= interval:  # at the start, or after a pause: there is nothing to catch up with
            self._wanted_at = time


def paced_frames(source: FrameSource, interval: Callable[[], float]) -> Iterator[Frame]:
    """Yield the frames of a source until it ends.

    Args:
        source: gives the frames.
        interval: returns the mean time between two frames of a live source, in seconds; every frame of any other
            source is given.

    Raises:
        SourceLostError: the source has failed for good.
    """
    pace = Pace()
    while True:
        step = interval()
        try:
            frame = source.read(pace.next_time(step))
        except NoFrameYet:
            continue
        if frame is None:
            return
        pace.take(frame.time, step)
        yield frame
