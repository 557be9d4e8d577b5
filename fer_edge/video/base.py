"""The frames of a video and its properties, the same for each library that decodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt


class VideoFrame(Protocol):
    """A decoded frame, which is converted when it is asked for."""

    @property
    def time(self) -> float:
        """Seconds from the start of the video; never less than that of the frame before, but it may be the same."""
        ...

    def gray(self) -> npt.NDArray[np.uint8]:
        """Return the upright frame in grey, uint8 of shape (rows, columns)."""
        ...

    def bgr(self) -> npt.NDArray[np.uint8]:
        """Return the upright frame in colour, uint8 of shape (rows, columns, 3)."""
        ...


class VideoReader(Protocol):
    """An open video. `fer_edge.video.factory.open_video` opens one."""

    @property
    def duration(self) -> float | None:
        """Length in seconds, if the video can be read from any time; None if only from its start."""
        ...

    @property
    def problem(self) -> str:
        """What was wrong with the frames so far; empty if nothing was. At the end, also whether frames are missing."""
        ...

    def frames(self, begin: float = 0.0) -> Iterator[VideoFrame]:
        """Yield the frames in order of their times; call it once.

        Args:
            begin: seconds from the start; some frames before it may be yielded, too.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...
