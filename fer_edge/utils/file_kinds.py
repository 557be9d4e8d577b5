"""Kinds of files in folders and archives: images, videos, and files that are not the user's own."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Final

from fer_edge.errors import printable
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

IMAGE_SUFFIXES: Final = frozenset(
    {
        *(".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
VIDEO_SUFFIXES: Final = frozenset(
    {
        *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".f4v", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m2v"),
        *(".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".qt", ".ts", ".vob"),
        *(".webm", ".wmv"),
    }
)
ARCHIVE_SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# What systems and photo managers keep beside the photos: thumbnails, deleted files, metadata. In lower case.
_SYSTEM_NAMES: Final = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@tmp"),  # Synology
        *("@recycle", "@recycled", "@recently-snapshot"),  # QNAP
        *("$recycle.bin", "recycler", "recycled", "system volume information", "thumbs.db"),  # Windows
        *("__macosx", "lost+found", "thumbnails", "thumbs"),
    }
)
_SYSTEM_NAMES_BYTES: Final = frozenset(map(os.fsencode, _SYSTEM_NAMES))
_MAX_KINDS: Final = 1000  # of endings that are counted apart
_SHOWN_KINDS: Final = 5
_MAX_ENDING: Final = 12  # characters; what is longer is no ending


def is_system_name(name: str | bytes) -> bool:
    """Return whether a file or folder is hidden, or belongs to a system: thumbnails, metadata or deleted files."""
    if isinstance(name, bytes):
        return name.startswith(b".") or name.lower() in _SYSTEM_NAMES_BYTES
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def has_system_name(parts: Iterable[str]) -> bool:
    """Return whether a file with these folders and this name in its path is left out; see `is_system_name`."""
    return any(is_system_name(part) for part in parts if part not in {".", ".."})


class LeftOut:
    """Counts the files and folders that are left out of a folder or an archive."""

    def __init__(self) -> None:
        """Start at zero."""
        self.system = 0
        self.kinds: Counter[str] = Counter()

    def add_other_kind(self, name: str | bytes) -> None:
        """Count a file whose ending is not that of a wanted file."""
        ending = os.path.splitext(os.fsdecode(name))[1].lower()  # noqa: PTH122 - Paths are slow for a million names
        if len(ending) > _MAX_ENDING or (ending not in self.kinds and len(self.kinds) >= _MAX_KINDS):
            ending = ""
        self.kinds[ending] += 1

    def lines(self) -> tuple[str, ...]:
        """Return one line for each reason, with the number of files; none if nothing was left out."""
        lines = []
        if self.system:
            lines.append(counted(self.system, "hidden or system file or folder", "hidden or system files and folders"))
        if others := self.kinds.total():
            known = [(ending, count) for ending, count in self.kinds.most_common() if ending][:_SHOWN_KINDS]
            kinds = ", ".join(f"{printable(ending)} {count}" for ending, count in known)
            of_kinds = f" ({kinds})" if kinds else ""
            lines.append(counted(others, "file of another kind", "files of other kinds") + of_kinds)
        return tuple(lines)
