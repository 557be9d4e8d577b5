"""Give access to the file of a source on this machine: fetch or unpack it if need be."""

from __future__ import annotations

import functools
import hashlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import DataError, printable
from fer_edge.tagging.input import archives, remote, tempdirs
from fer_edge.utils.bounded_file import open_regular, read_bytes
from fer_edge.utils.limits import IMAGE_BYTES
from fer_edge.utils.worker import report_progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fer_edge.tagging.input.source import Source

_BLOCK: Final = 1 << 20


def read_image(source: Source, fetched: Path | None) -> bytes:
    """Return the encoded image of a source.

    Args:
        source: the source.
        fetched: the local copy of an image from an address; None for other images.

    Raises:
        DataError: the file cannot be read.
    """
    if source.kind == "member":
        return source.data
    path = fetched or Path(source.uri)
    try:
        return read_bytes(path, IMAGE_BYTES)
    except DataError as error:
        raise DataError(str(error).replace(str(path), source.path)) from error


@contextmanager
def local_video(source: Source, max_bytes: int) -> Iterator[Path]:
    """Yield a file of this machine that contains the video of a source.

    Args:
        source: the source.
        max_bytes: largest video to fetch or unpack.

    Raises:
        DataError: the video cannot be fetched or unpacked.
    """
    is_remote = remote.is_address(source.uri)
    if not is_remote and source.member_position is None:
        yield Path(source.uri)
        return
    with tempdirs.folder() as folder:
        path = folder / f"video{Path(source.path).suffix}"
        if is_remote:
            remote.fetch(source.uri, path, max_bytes)
        else:
            archives.unpack(Path(source.uri), source.member_position or 0, printable(source.path), path, max_bytes)
        yield path


def hash_video(path: Path) -> str:
    """Return the SHA-256 of a video; consecutive parts of one video share the work."""
    return _hash_file(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _hash_file(path: Path, modified: int) -> str:  # noqa: ARG001 - part of the cache's key
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            report_progress()
            digest.update(block)
    return digest.hexdigest()
