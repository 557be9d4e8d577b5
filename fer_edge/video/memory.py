"""Bounding the memory of a video's decoder, which keeps as many frames as the video asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge.utils.limits import VIDEO_DECODER_BYTES
from fer_edge.utils.system import resident_mb, return_freed_memory
from fer_edge.utils.words import megabytes

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_SMALL_PIXELS: Final = 1 << 21  # Full HD: twenty frames of any format stay far below the limit


class DecoderMemory:
    """Counts the memory that a process takes in some blocks, which decode.

    What it takes elsewhere is not the decoder's; what is given back elsewhere may be. Memory that was free before, but
    still the process's, would not count when the decoder takes it, and is given back before the first large frame.
    """

    def __init__(self) -> None:
        """Start at zero."""
        self._counts = self._has_counted = False
        self._held_mb = self._last_mb = 0.0

    def expect(self, pixels: int) -> None:
        """Say how many pixels the next frame has; small frames are not counted, because that takes time."""
        self._counts = pixels > _SMALL_PIXELS
        if self._counts and not self._has_counted:
            return_freed_memory()
            self._has_counted = True

    @property
    def is_too_much(self) -> bool:
        """Whether the decoder holds more than it may."""
        return self._held_mb * 1e6 > VIDEO_DECODER_BYTES

    def problem(self, path: Path, time: float) -> str:
        """Describe that a decoder holds too much.

        Args:
            path: the video.
            time: seconds of the last frame that counts.
        """
        return (
            f"{path}: refused from {time:.1f} s on, its decoder takes more than {megabytes(VIDEO_DECODER_BYTES)};"
            " make its frames smaller"
        )

    def __enter__(self) -> None:
        """Begin to decode."""
        if self._counts:
            now = resident_mb() or 0.0
            self._held_mb = max(self._held_mb + min(now - self._last_mb, 0.0), 0.0)
            self._last_mb = now

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Count what was taken since then."""
        if self._counts:
            now = resident_mb() or 0.0
            self._held_mb = max(self._held_mb + now - self._last_mb, 0.0)
            self._last_mb = now
