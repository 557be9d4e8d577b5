"""What every source of frames has in common."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge_device.messages import CameraStatus


class NoFrameYet(Exception):  # noqa: N818 - not a failure
    """Raised when a source has no new frame for now; ask again."""


class Frame(NamedTuple):
    """One image.

    Attributes:
        gray: uint8 of shape (rows, columns).
        time: seconds on a clock that is never set: a video's own, or the machine's since some start.
        number: counts from 0; a number that is left out is a frame that was dropped.
        epoch: what to add to ``time`` for seconds since 1970; 0 for a video, whose times are told as they are.
    """

    gray: npt.NDArray[np.uint8]
    time: float
    number: int
    epoch: float = 0.0


class FrameSource(Protocol):
    """Anything that gives frames."""

    @property
    def live(self) -> bool:
        """Whether time goes on whether a frame is taken or not."""
        ...

    @property
    def status(self) -> CameraStatus:
        """``online`` while frames come, ``stalled`` while they should but do not."""
        ...

    def read(self) -> Frame | None:
        """The next frame; None after the last.

        Raises:
            NoFrameYet: there is none for now; ask again.
            SourceLostError: the source failed for good.
        """
        ...

    def close(self) -> None:
        """Let go of the device or file."""
        ...


def paced_frames(source: FrameSource, min_interval: Callable[[], float]) -> Iterator[Frame]:
    """Yield the frames of a source until it ends.

    Args:
        source: where they come from.
        min_interval: gives the seconds from one frame of a live source to the next; other sources give every frame.

    Raises:
        SourceLostError: the source failed for good.
    """
    while True:
        try:
            frame = source.read()
        except NoFrameYet:
            continue
        if frame is None:
            return
        taken = time.monotonic()
        yield frame
        if source.live:
            time.sleep(max(taken + min_interval() - time.monotonic(), 0.0))
