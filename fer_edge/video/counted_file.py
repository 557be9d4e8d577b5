"""A file that ends for FFmpeg when it has read too much of it without finding a frame."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fer_edge.utils.limits import VIDEO_BYTES_WITHOUT_FRAME

if TYPE_CHECKING:
    from pathlib import Path


class CountedFile:
    """A video file as PyAV reads it.

    FFmpeg searches a stream without an index for the next frame to its end, however far that is.

    Attributes:
        name: what FFmpeg chooses the format by, beside the content; the rest of the file's name tells it nothing.
        is_exhausted: whether too much was read, so that the file has ended for good.
    """

    def __init__(self, path: Path) -> None:
        """Open a file, of which `VIDEO_BYTES_WITHOUT_FRAME` may be read before `expect_frame` is called.

        Raises:
            OSError: it cannot be opened.
        """
        self._file = path.open("rb", buffering=0)
        self.name = f"video{path.suffix}" if path.suffix.isascii() else "video"
        self.is_exhausted = False
        self._left: float = VIDEO_BYTES_WITHOUT_FRAME

    def expect_frame(self) -> None:
        """Count from here on, because a frame was found."""
        self._left = VIDEO_BYTES_WITHOUT_FRAME

    def allow_search(self) -> None:
        """Do not count until a frame is found: a container without an index is searched for a time."""
        self._left = math.inf

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most ``size``; none at the end, or if too much was read."""
        if self.is_exhausted:
            return b""
        data = self._file.read(size) or b""
        self._left -= len(data)
        self.is_exhausted = self._left <= 0
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        """Go to a position, and return it."""
        return self._file.seek(position, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
