"""The frame, and the protocol of everything that gives frames."""

from __future__ import annotations

import time
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
        gray: uint8 image of shape (rows, columns).
        time: seconds on a clock that never jumps: within a video, or since an arbitrary start for a live source.
        number: counts from 0; a gap means that frames were dropped.
        epoch: for a live source, what to add to ``time`` to get seconds since 1970; for a video 0.
    """

    gray: npt.NDArray[np.uint8]
    time: float
    number: int
    epoch: float = 0.0


class FrameSource(Protocol):
    """Gives frames. `fer_edge_device.capture.factory.open_source` opens one."""

    @property
    def live(self) -> bool:
        """Whether frames are lost that are not read in time."""
        ...

    @property
    def status(self) -> CameraStatus:
        """``online`` while frames arrive, ``stalled`` while they should but do not.

        Of a `SwitchableSource` also ``offline`` until it could be opened, and ``disabled`` while it is closed.
        """
        ...

    def read(self) -> Frame | None:
        """Return the next frame; None after the last.

        Raises:
            NoFrameYet: there is no new frame at the moment; read again.
            SourceLostError: the source has failed for good.
        """
        ...

    def close(self) -> None:
        """Release the device or file."""
        ...


class SwitchableSource(FrameSource, Protocol):
    """A source that is opened when it is wanted; while it is closed, `read` raises `NoFrameYet`.

    `fer_edge_device.capture.factory.make_source` makes one.
    """

    def open(self) -> None:
        """Begin to open the device; harmless if it is open.

        Raises:
            SourceError: the device cannot be opened, and is not to be tried again.
        """
        ...


def paced_frames(source: FrameSource, min_interval: Callable[[], float]) -> Iterator[Frame]:
    """Yield the frames of a source until it ends.

    Args:
        source: gives the frames.
        min_interval: returns the minimum time between two frames of a live source, in seconds; every frame of any other
            source is given.

    Raises:
        SourceLostError: the source has failed for good.
    """
    while True:
        try:
            frame = source.read()
        except NoFrameYet:
            continue
        if frame is None:
            return
        taken_at = time.monotonic()
        yield frame
        if source.live:
            time.sleep(max(taken_at + min_interval() - time.monotonic(), 0.0))
