"""Images and videos in zip and tar archives.

Images are read one by one; a video is unpacked to a temporary file.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.errors import DataError, printable
from fer_edge.tagging.input import tempdirs
from fer_edge.utils.archive_member import unpack_errors
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.file_kinds import VIDEO_SUFFIXES, LeftOut, has_system_name
from fer_edge.utils.limits import IMAGE_BYTES
from fer_edge.utils.tar_reader import tar_members
from fer_edge.utils.words import megabytes
from fer_edge.utils.worker import report_progress
from fer_edge.utils.zip_reader import open_zip

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path
    from typing import IO

    from fer_edge.utils.archive_member import ArchiveMember

_BLOCK: Final = 1 << 20


class Member(NamedTuple):
    """An image or video in an archive.

    Attributes:
        name: name in the archive.
        position: position among all members, from 0; a name may occur twice.
        read: reads an image; call it before the next member is listed. It raises DataError. None for a video, or if
            there is an error.
        error: why the member is not read; empty if it is.
    """

    name: str
    position: int
    read: Callable[[], bytes] | None
    error: str = ""

    @property
    def is_video(self) -> bool:
        """Whether the member is a video, which has to be unpacked."""
        return not self.error and self.read is None


def members(path: Path, image_endings: tuple[str, ...], display_name: str, left_out: LeftOut) -> Iterator[Member]:
    """List the images and videos in an archive, in its order.

    If the archive is damaged, the last member carries the error.

    Args:
        path: a ``.zip`` file, or a ``.tar`` file, compressed or not.
        image_endings: endings of the names of images.
        display_name: name of the archive in errors.
        left_out: counts the members that are left out.
    """
    position = -1
    try:
        for file in _files(path):
            position = file.position
            name = file.name.lower()
            is_video = name.endswith(tuple(VIDEO_SUFFIXES))
            if has_system_name(file.name.split("/")):
                left_out.system += 1
                continue
            if not (is_video or name.endswith(image_endings)):
                left_out.add_other_kind(file.name)
                continue
            member_name = printable(f"{display_name}/{file.name}")
            if file.is_bomb or (file.size > IMAGE_BYTES and not is_video):
                error = f"{member_name}: refused, it would unpack to {megabytes(file.size)}"
                yield Member(file.name, position, None, error)
            else:
                yield Member(file.name, position, None if is_video else partial(_read, file, member_name))
    except UnpackError as error:
        message = f"{printable(display_name)}: damaged, or not the kind of archive that its name says ({error})"
        yield Member("", position + 1, None, message)
    except DataError as error:
        yield Member("", position + 1, None, str(error))


def unpack(path: Path, position: int, display_name: str, destination: Path, max_bytes: int) -> None:
    """Unpack one file of an archive.

    Args:
        path: the archive.
        position: position of the file among all members.
        display_name: name of the file in errors.
        destination: file to write.
        max_bytes: largest size that is unpacked.

    Raises:
        DataError: the file is missing, damaged or too large.
    """
    with _as_data_error(display_name), closing(_files(path)) as files:
        file = next((file for file in files if file.position == position), None)
        if file is None:
            raise DataError(f"{display_name}: no longer in the archive")
        if file.size > max_bytes:
            raise tempdirs.size_error(display_name, max_bytes)
        with file.open() as content:
            _copy(content, destination, display_name, max_bytes)


def _copy(content: IO[bytes], destination: Path, display_name: str, max_bytes: int) -> None:
    written = 0
    try:
        with destination.open("wb") as out:
            while block := _read_block(content, display_name):
                written += len(block)
                if written > max_bytes:
                    raise tempdirs.size_error(display_name, max_bytes)
                out.write(block)
    except OSError as error:
        raise tempdirs.write_error(display_name, error) from error


def _read_block(content: IO[bytes], display_name: str) -> bytes:
    report_progress()
    with _as_data_error(display_name):
        return content.read(_BLOCK)


def _files(path: Path) -> Generator[ArchiveMember]:
    if path.suffix.lower() != ".zip":
        yield from tar_members(path)
        return
    with open_zip(path) as archive:
        yield from archive.members


def _read(file: ArchiveMember, display_name: str) -> bytes:
    with _as_data_error(display_name):
        return file.read(IMAGE_BYTES)


@contextmanager
def _as_data_error(display_name: str) -> Iterator[None]:
    try:
        with unpack_errors():
            yield
    except UnpackError as error:
        raise DataError(f"{display_name}: damaged or encrypted ({error})") from error
