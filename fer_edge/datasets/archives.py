"""Reading datasets from zip and tar archives.

Members are read directly from the archive. Nothing is extracted to disk, so no member can be written outside a folder.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fer_edge.datasets.class_folders import EncodedImage, count_left_out, is_class_image, read_class_folders
from fer_edge.datasets.fer2013_csv import raise_data_errors, read_csv, table_rank
from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import TextLines
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.file_kinds import LeftOut, has_system_name
from fer_edge.utils.limits import ARCHIVE_BYTES, ARCHIVE_MEMBERS, IMAGE_BYTES, TABLE_BYTES
from fer_edge.utils.tar_reader import tar_members
from fer_edge.utils.words import counted
from fer_edge.utils.zip_reader import open_zip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.utils.archive_member import ArchiveMember

    Members = Iterable[tuple[PurePosixPath, ArchiveMember]]


def read_zip(path: Path, side: int) -> Dataset:
    """Read a dataset from a zip archive.

    Args:
        path: the archive, with a CSV of faces or with images in class folders.
        side: rows and columns of the faces to return.

    Raises:
        DataError: the archive is damaged, unsafe or contains no dataset.
    """
    is_open = False
    with raise_data_errors(path):
        try:
            with open_zip(path) as archive:
                is_open = True
                members = dict(_check_members(path, archive.members))
                return _read_members(members.items, path, side)
        except UnpackError as error:
            what = "damaged or encrypted archive" if is_open else "not a zip archive, or one cut short"
            raise DataError(f"{path}: {what} ({error}); download it again") from error


def read_tar(path: Path, side: int) -> Dataset:
    """Read a dataset from a tar archive, in the order of its members, because a compressed one has no index.

    Args:
        path: the archive, compressed or not, with a CSV of faces or with images in class folders.
        side: rows and columns of the faces to return.

    Raises:
        DataError: the archive is damaged, unsafe or contains no dataset.
    """
    with raise_data_errors(path):
        try:
            return _read_members(lambda: _check_members(path, tar_members(path)), path, side)
        except UnpackError as error:
            raise DataError(f"{path}: not a tar archive, or one cut short ({error}); download it again") from error


def _read_members(members: Callable[[], Members], path: Path, side: int) -> Dataset:
    """Read the best table of faces among the members, the largest of several, or the images in class folders.

    Args:
        members: lists the members; called twice; each member must be read before the next one is requested.
        path: the archive, for errors.
        side: rows and columns of the faces to return.
    """
    ranks = {name: (_rank_table(member), member.size) for name, member in members() if _is_table(name)}
    best = max(ranks, key=lambda name: ranks[name], default=None)
    if best and ranks[best][0]:
        for name, member in members():  # the archive is open as long as they are listed
            if name == best:
                with member.open() as file:
                    return read_csv(TextLines(file, f"{path}/{best}"), f"{path}/{best}", side)
    left_out = LeftOut()
    return read_class_folders(_read_images(members(), left_out), path, side, left_out)


def _is_table(name: PurePosixPath) -> bool:
    return name.suffix.lower() == ".csv" and not has_system_name(name.parts)


def _rank_table(member: ArchiveMember) -> int:
    with member.open() as file:
        try:
            return table_rank(next(TextLines(file, member.name), ""))
        except (UnicodeDecodeError, DataError):  # such as a line of megabytes
            return 0


def _read_images(members: Members, left_out: LeftOut) -> Iterator[EncodedImage]:
    """Yield the images in class folders, and count the other members."""
    for name, member in members:
        if is_class_image(name):
            yield EncodedImage(name, member.read(IMAGE_BYTES))
        else:
            count_left_out(name, left_out)


def _check_members(path: Path, members: Iterable[ArchiveMember]) -> Iterator[tuple[PurePosixPath, ArchiveMember]]:
    """Yield the files of an archive one by one; an unsafe one makes the whole archive invalid."""
    total = 0
    for count, member in enumerate(members, 1):
        name = _check_name(path, member.name)
        total += member.size
        limit = IMAGE_BYTES if is_class_image(name) else TABLE_BYTES
        if member.size > limit or member.is_bomb or count > ARCHIVE_MEMBERS or total > ARCHIVE_BYTES:
            raise DataError(
                f"{path}: refused, it would unpack to {total} bytes in {counted(count, 'file')} with its member"
                f" {member.name!r}, which would unpack from {member.packed_size} to {member.size} bytes"
            )
        yield name, member


def _check_name(path: Path, text: str) -> PurePosixPath:
    """Return the path of a member if it lies inside the archive."""
    name = PurePosixPath(text.replace("\\", "/"))
    if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise DataError(f"{path}: refused, its member {text!r} points outside the archive")
    return name
