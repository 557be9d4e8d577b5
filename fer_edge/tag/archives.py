"""Pictures in zip and tar archives, read one by one: nothing is unpacked to disk."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.dataset_files import too_dense
from fer_edge.errors import DataError, first_line, printable
from fer_edge.tag.films import FILM_SUFFIXES
from fer_edge.tag.stills import LARGEST_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_DAMAGE: Final = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(NotImplementedError, RuntimeError, ValueError),  # a method that is not known, a password, nonsense
)


class Member(NamedTuple):
    """A picture in an archive.

    Attributes:
        name: its name there.
        read: reads it, before the next member is asked for; raises DataError.
        error: why it is not read; empty where it is.
    """

    name: str
    read: Callable[[], bytes] | None
    error: str = ""


def members(path: Path, endings: tuple[str, ...]) -> Iterator[Member]:
    """The pictures in an archive, in its order; one that is damaged ends with a member that says so.

    Args:
        path: a ``.zip``, or a ``.tar``, compressed or not.
        endings: what the names of pictures end in.
    """
    try:
        yield from _zip(path, endings) if path.suffix.lower() == ".zip" else _tar(path, endings)
    except _DAMAGE as error:
        what = f"{printable(str(path))}: damaged, or not the archive that its name says ({first_line(error)})"
        yield Member("", None, what)


def _zip(path: Path, endings: tuple[str, ...]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir() or _passed_over(info.filename):
                continue
            shown = printable(f"{path}/{info.filename}")
            if too_dense(info):
                yield Member(info.filename, None, _refused(shown, info.file_size))
            else:
                yield from _member(info.filename, shown, info.file_size, partial(archive.open, info), endings)


def _tar(path: Path, endings: tuple[str, ...]) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:
            if info.isfile() and not _passed_over(info.name):
                shown = printable(f"{path}/{info.name}")
                yield from _member(info.name, shown, info.size, partial(archive.extractfile, info), endings)
            archive.members.clear()  # type: ignore[attr-defined] # else it remembers every one


def _member(
    name: str, shown: str, size: int, opened: Callable[[], IO[bytes] | None], endings: tuple[str, ...]
) -> Iterator[Member]:
    ending = name.lower()
    if ending.endswith(tuple(FILM_SUFFIXES)):
        yield Member(name, None, f"{shown}: a film in an archive; unpack it first")
    elif ending.endswith(endings):
        if size > LARGEST_FILE:
            yield Member(name, None, _refused(shown, size))
        else:
            yield Member(name, lambda: _read(opened, shown))


def _read(opened: Callable[[], IO[bytes] | None], shown: str) -> bytes:
    with _as_data_error(shown):
        file = opened()
        if file is None:
            raise DataError(f"{shown}: a link")
        with file:
            return file.read(LARGEST_FILE)


@contextmanager
def _as_data_error(shown: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DataError(f"{shown}: damaged or encrypted ({first_line(error)})") from error


def _passed_over(name: str) -> bool:
    """Whether it is what macOS leaves beside the data."""
    return "__MACOSX" in name.split("/")


def _refused(shown: str, size: int) -> str:
    return f"{shown}: refused, it would unpack to {size / 1e6:.0f} MB"
