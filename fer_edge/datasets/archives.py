"""Reading datasets from zip and tar archives.

Members are read directly from the archive.  Nothing is extracted to disk, so no member can be written outside a folder.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Final, TypeVar

from fer_edge.datasets.class_folders import EncodedImage, count_left_out, is_class_image, read_class_folders
from fer_edge.datasets.fer2013_csv import raise_data_errors, read_csv, table_rank
from fer_edge.errors import DAMAGED_ZIP, DataError
from fer_edge.utils.file_kinds import LeftOut, has_system_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fer_edge.datasets.dataset import Dataset

Member = TypeVar("Member")

# Limits of an archive's uncompressed content: generous for a dataset of faces, but they protect the disk and memory.
_MAX_MEMBERS: Final = 2_000_000
_MAX_TOTAL_BYTES: Final = 16 << 30
_MAX_MEMBER_BYTES: Final = 2 << 30
_MAX_IMAGE_BYTES: Final = 256 << 20
_MAX_RATIO: Final = 100  # of uncompressed to compressed size; about 3 for FER-2013's CSV
_MIN_RATIO_BYTES: Final = 16 << 20  # smaller members may have any ratio

_MAX_HEADER_CHARACTERS: Final = 1000


def read_zip(path: Path, side: int) -> Dataset:
    """Read a dataset from a zip archive.

    Args:
        path: the archive, with a CSV of faces or with images in class folders.
        side: rows and columns of the faces to return.

    Raises:
        DataError: the archive is damaged, unsafe or contains no dataset.
    """
    with raise_data_errors(path):
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: not a zip archive, or one cut short; download it again") from error
        with archive:
            members = _check_zip_members(path, archive)
            try:
                ranks = {}
                for name, info in members.items():
                    if _is_table(name):
                        with archive.open(info) as raw:
                            ranks[name] = _rank_table(raw), info.file_size
                if best := _best_table(ranks):
                    with archive.open(members[best]) as raw:
                        return _read_table(raw, f"{path}/{best}", side)
                left_out = LeftOut()
                images = _count_others(members.items(), left_out)
                encoded = (EncodedImage(name, archive.read(info)) for name, info in images)
                return read_class_folders(encoded, path, side, left_out)
            except DAMAGED_ZIP as error:
                raise DataError(f"{path}: damaged or encrypted archive ({error}); download it again") from error


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
            ranks = {}
            with tarfile.open(path) as archive:
                for name, info in _check_tar_members(path, archive):
                    if _is_table(name) and (raw := archive.extractfile(info)):
                        ranks[name] = _rank_table(raw), info.size
            best = _best_table(ranks)
            left_out = LeftOut()
            with tarfile.open(path) as archive:
                members = _check_tar_members(path, archive)
                if best:
                    table = next(archive.extractfile(info) for name, info in members if name == best)
                    return _read_table(table or io.BytesIO(), f"{path}/{best}", side)
                images = _count_others(members, left_out)
                opened = ((name, archive.extractfile(info)) for name, info in images)
                encoded = (EncodedImage(name, raw.read()) for name, raw in opened if raw)
                return read_class_folders(encoded, path, side, left_out)
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise DataError(f"{path}: not a tar archive, or one cut short ({error}); download it again") from error


def is_zip_bomb(info: zipfile.ZipInfo) -> bool:
    """Return whether a member is compressed far more than images and tables can be."""
    return info.file_size > max(_MIN_RATIO_BYTES, _MAX_RATIO * info.compress_size)


def _is_table(name: PurePosixPath) -> bool:
    return name.suffix.lower() == ".csv" and not has_system_name(name.parts)


def _rank_table(raw: IO[bytes]) -> int:
    with io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
        try:
            return table_rank(file.readline(_MAX_HEADER_CHARACTERS))
        except UnicodeDecodeError:
            return 0


def _best_table(ranks: dict[PurePosixPath, tuple[int, int]]) -> PurePosixPath | None:
    """Return the best table of faces, the largest of several; None if there is no table of faces.

    Args:
        ranks: rank and size of each table, see `table_rank`.
    """
    best = max(ranks, key=lambda name: ranks[name], default=None)
    return best if best and ranks[best][0] else None


def _read_table(raw: IO[bytes], name: str, side: int) -> Dataset:
    with io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
        return read_csv(file, name, side)


def _count_others(
    members: Iterable[tuple[PurePosixPath, Member]], left_out: LeftOut
) -> Iterator[tuple[PurePosixPath, Member]]:
    """Yield the images in class folders, and count the other members."""
    for name, info in members:
        if is_class_image(name):
            yield name, info
        else:
            count_left_out(name, left_out)


def _check_zip_members(path: Path, archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Return the files of an archive by name; an unsafe member makes the whole archive invalid."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = _check_name(path, info.filename)
        if info.is_dir():
            continue
        if info.file_size > _MAX_MEMBER_BYTES or is_zip_bomb(info):
            raise DataError(
                f"{path}: refused, its member {info.filename!r} would unpack from {info.compress_size}"
                f" to {info.file_size} bytes"
            )
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if len(members) > _MAX_MEMBERS or total > _MAX_TOTAL_BYTES:
        raise DataError(f"{path}: refused, it would unpack to {len(members)} files of {total} bytes")
    return members


def _check_tar_members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[PurePosixPath, tarfile.TarInfo]]:
    """Yield the files of an archive one by one, without links and devices."""
    total = 0
    for count, info in enumerate(archive):
        if not info.isfile():
            continue
        name = _check_name(path, info.name)
        total += info.size
        limit = _MAX_IMAGE_BYTES if is_class_image(name) else _MAX_MEMBER_BYTES
        if info.size > limit or count >= _MAX_MEMBERS or total > _MAX_TOTAL_BYTES:
            raise DataError(f"{path}: refused, it would unpack to {total} bytes with its member {info.name!r}")
        yield name, info


def _check_name(path: Path, text: str) -> PurePosixPath:
    """Return the path of a member if it lies inside the archive."""
    name = PurePosixPath(text.replace("\\", "/"))
    if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise DataError(f"{path}: refused, its member {text!r} points outside the archive")
    return name
