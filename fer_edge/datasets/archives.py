"""Reading datasets from zip and tar archives.

Members are read directly from the archive.  Nothing is extracted to disk, so no member can be written outside a folder.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from fer_edge.datasets.class_folders import EncodedImage, is_class_image, read_class_folders
from fer_edge.datasets.fer2013_csv import is_face_table, raise_data_errors, read_csv
from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import TextLines
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.file_kinds import LeftOut, has_system_name
from fer_edge.utils.limits import ARCHIVE_BYTES, ARCHIVE_MEMBERS, IMAGE_BYTES, TABLE_BYTES
from fer_edge.utils.tar_reader import tar_members
from fer_edge.utils.words import counted
from fer_edge.utils.zip_reader import open_zip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.utils.archive_member import ArchiveMember


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
                for name, member in members.items():
                    if table := _read_face_table(member, name, path, side):
                        return table
                return read_class_folders(_read_images(members.items()), path, side, LeftOut())
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
            for name, member in _check_members(path, tar_members(path)):
                if table := _read_face_table(member, name, path, side):
                    return table
            return read_class_folders(_read_images(_check_members(path, tar_members(path))), path, side, LeftOut())
        except UnpackError as error:
            raise DataError(f"{path}: not a tar archive, or one cut short ({error}); download it again") from error


def _read_images(members: Iterable[tuple[PurePosixPath, ArchiveMember]]) -> Iterator[EncodedImage]:
    for name, member in members:
        if is_class_image(name):
            yield EncodedImage(name, member.read(IMAGE_BYTES))


def _read_face_table(member: ArchiveMember, name: PurePosixPath, path: Path, side: int) -> Dataset | None:
    """Read a CSV inside an archive; return None if it is another file, such as a sample submission."""
    if name.suffix.lower() != ".csv" or has_system_name(name.parts):
        return None
    with member.open() as file:
        lines = TextLines(file, f"{path}/{name}")
        try:
            first = next(lines, "")
        except UnicodeDecodeError:
            return None
        if not is_face_table(first):
            return None
        return read_csv(lines, f"{path}/{name}", side, first)


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
