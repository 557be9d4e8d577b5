"""Images and videos in zip and tar archives: images are read one by one, videos unpacked to a file, for a while."""

from __future__ import annotations

import tarfile
import zipfile
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.datasets.archives import is_zip_bomb
from fer_edge.errors import DAMAGED_ZIP, DataError, first_line, printable
from fer_edge.tagging.input import tempdirs
from fer_edge.tagging.input.image_decode import LARGEST_FILE
from fer_edge.tagging.input.video import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path
    from typing import IO

SUFFIXES: Final = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_BLOCK: Final = 1 << 20
_DAMAGE: Final = (*DAMAGED_ZIP, tarfile.TarError, OSError, ValueError)


class Member(NamedTuple):
    """An image or video in an archive.

    Attributes:
        name: its name there.
        number: its place among all that is in the archive, from 0; a name may be there twice.
        read: reads an image, before the next member is asked for; raises DataError.
        error: why it is not read; empty where it is.
    """

    name: str
    number: int
    read: Callable[[], bytes] | None
    error: str = ""

    @property
    def is_video(self) -> bool:
        """Whether it is unpacked to be looked at."""
        return not self.error and self.read is None


class _Entry(NamedTuple):
    """A file in an archive of any kind; ``size`` is what it would unpack to, in bytes."""

    number: int
    name: str
    size: int
    too_dense: bool
    open: Callable[[], IO[bytes] | None]


def members(path: Path, endings: tuple[str, ...], shown: str) -> Iterator[Member]:
    """The images and videos in an archive, in its order; one that is damaged ends with a member that says so.

    Args:
        path: a ``.zip``, or a ``.tar``, compressed or not.
        endings: what the names of images end in.
        shown: what to call it in an error.
    """
    number = -1
    try:
        for entry in _entries(path):
            number = entry.number
            name = entry.name.lower()
            is_video = name.endswith(tuple(VIDEO_SUFFIXES))
            if "__MACOSX" in entry.name.split("/") or not (is_video or name.endswith(endings)):
                continue  # what macOS leaves beside the data, or what is neither
            what = printable(f"{shown}/{entry.name}")
            if entry.too_dense or (entry.size > LARGEST_FILE and not is_video):
                error = f"{what}: refused, it would unpack to {entry.size / 1e6:.0f} MB"
                yield Member(entry.name, number, None, error)
            else:
                yield Member(entry.name, number, None if is_video else partial(_read, entry, what))
    except _DAMAGE as error:
        why = f"{printable(shown)}: damaged, or not the archive that its name says ({first_line(error)})"
        yield Member("", number + 1, None, why)


def unpack(path: Path, number: int, shown: str, to: Path, most: int) -> None:
    """Write a file out of an archive.

    Args:
        path: the archive.
        number: place of the file among all that is in it.
        shown: what to call the file in an error.
        to: where it is written.
        most: bytes that it may have.

    Raises:
        DataError: it is not there, damaged, or larger.
    """
    with _as_data_error(shown), closing(_entries(path)) as entries:
        entry = next((entry for entry in entries if entry.number == number), None)
        if entry is None:
            raise DataError(f"{shown}: no longer in the archive")
        if entry.size > most:
            raise tempdirs.too_large(shown, most)
        with _opened(entry, shown) as file:
            _copy(file, to, shown)


def _copy(file: IO[bytes], to: Path, shown: str) -> None:
    try:
        with to.open("wb") as out:
            while block := _block(file, shown):
                out.write(block)
    except OSError as error:
        raise tempdirs.no_room(shown, error) from error


def _block(file: IO[bytes], shown: str) -> bytes:
    with _as_data_error(shown):
        return file.read(_BLOCK)


def _entries(path: Path) -> Generator[_Entry]:
    return _zipped(path) if path.suffix.lower() == ".zip" else _tarred(path)


def _zipped(path: Path) -> Generator[_Entry]:
    with zipfile.ZipFile(path) as archive:
        for number, info in enumerate(archive.infolist()):
            if not info.is_dir():
                yield _Entry(number, info.filename, info.file_size, is_zip_bomb(info), partial(archive.open, info))


def _tarred(path: Path) -> Generator[_Entry]:
    with tarfile.open(path) as archive:
        for number, info in enumerate(archive):
            if info.isfile():
                yield _Entry(number, info.name, info.size, False, partial(archive.extractfile, info))  # noqa: FBT003
            archive.members.clear()  # type: ignore[attr-defined] # else it remembers every one


def _read(entry: _Entry, shown: str) -> bytes:
    with _as_data_error(shown), _opened(entry, shown) as file:
        return file.read(LARGEST_FILE)


def _opened(entry: _Entry, shown: str) -> IO[bytes]:
    file = entry.open()
    if file is None:
        raise DataError(f"{shown}: a link")
    return file


@contextmanager
def _as_data_error(shown: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DataError(f"{shown}: damaged or encrypted ({first_line(error)})") from error
