"""Finding out whether a video file was cut short, by the sizes that its container states.

The length in seconds cannot tell: it may be that of the sound, of a subtitle, or of frames that an edit list skips.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

# ISO/IEC 14496-12 and QuickTime: boxes that a file may consist of.
_BOXES: Final = frozenset(
    {
        *(b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"free", b"skip", b"wide", b"uuid", b"sidx", b"styp", b"meta"),
        *(b"pnot", b"udta", b"emsg", b"prft", b"ssix"),
    }
)
_MAX_BOXES: Final = 100_000
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def missing_bytes(path: Path) -> int:
    """Return how many bytes a file lacks at its end; 0 if none, or if its container does not tell.

    MP4 and QuickTime, Matroska and WebM, and AVI tell.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(12)
            if start[4:8] in _BOXES:
                end = _end_of_boxes(file)
            elif start[:4] == _EBML:
                end = _end_of_segment(file)
            elif start[:4] == b"RIFF" and start[8:12] == b"AVI ":
                end = _end_of_riff(file)
            else:
                return 0
    except OSError:
        return 0
    return max(end - size, 0)


def describe_truncation(path: Path, last: float) -> str:
    """Describe that a video is cut short; return an empty text if it is not.

    Args:
        path: the video.
        last: time of its last frame, in seconds.
    """
    missing = missing_bytes(path)
    if not missing:
        return ""
    size = path.stat().st_size
    return f"{path}: ends after {last:.1f} s, because it is cut short: {size} of {size + missing} bytes; copy it again"


def _end_of_boxes(file: IO[bytes]) -> int:
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(16)
        size, kind = int.from_bytes(header[:4]), header[4:8]
        if kind not in _BOXES:
            break
        if size == 1:
            size = int.from_bytes(header[8:16])
        if size < 8:  # 0: it extends to the end
            break
        position += size
    return position


def _end_of_segment(file: IO[bytes]) -> int:
    """Return where the first segment of a Matroska file ends; 0 if its size is unknown, as in live streams."""
    position = 0
    for _ in range(2):
        file.seek(position)
        header = file.read(12)
        size, length = _read_size(header[4:])
        if size is None or header[:4] not in {_EBML, _SEGMENT}:
            return 0
        position += 4 + length + size
        if header[:4] == _SEGMENT:
            return position
    return 0


def _read_size(data: bytes) -> tuple[int | None, int]:
    """Return the size of an EBML element, or None if it is unknown, and the number of bytes that it takes."""
    length = 9 - data[0].bit_length() if data else 9
    if length > min(len(data), 8):
        return None, 0
    value = int.from_bytes(data[:length]) & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), length


def _end_of_riff(file: IO[bytes]) -> int:
    position = 0
    for _ in range(_MAX_BOXES):
        file.seek(position)
        header = file.read(12)
        size = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF" or header[8:12] not in {b"AVI ", b"AVIX"} or not size:
            break
        position += 8 + size
    return position
