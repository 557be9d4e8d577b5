"""Reading datasets: FER-2013 as CSV, as a tree of folders, or as a zip or tar of either; FER+'s votes; label maps."""

from __future__ import annotations

import csv
import io
import lzma
import os
import tarfile
import tomllib
import warnings
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from fer_edge.classification.crop import whole_image
from fer_edge.classification.labels import FER2013, canonical
from fer_edge.datasets.dataset import TRAINING, USAGES, Dataset, FaceStore, LabelMap, usage_name
from fer_edge.errors import DAMAGED_ZIP, DataError, first_line, printable
from fer_edge.utils.image_io import IMAGE_SUFFIXES, decode_gray, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

_Entry = tuple[PurePosixPath, bytes | DataError]  # the name of an image, and it or why it cannot be had

FER2013_SIDE: Final = 48
_NUMBERS: Final = tuple(map(str, range(len(FER2013))))
_VOTE_COLUMNS: Final = (  # as fer2013new.csv spells emotions.FERPLUS_COLUMNS
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)

# Generous for any face dataset, small for a disk: what an archive may unpack to.
_MAX_MEMBERS: Final = 2_000_000
_MAX_UNPACKED: Final = 16 << 30
_MAX_MEMBER: Final = 2 << 30
_MAX_RATIO: Final = 100  # FER-2013's CSV packs about 3 to 1
_RATIO_FREE: Final = 16 << 20

_MAX_IMAGE: Final = 256 << 20

_HEADER_CHARACTERS: Final = 1000
_DECODED_TOGETHER: Final = 512
_BYTES_TOGETHER: Final = 64 << 20


def ensure_there(path: Path) -> None:
    """Find out that data is missing before all else is loaded.

    Raises:
        DataError: there is no such file or folder.
    """
    if not path.exists():
        raise DataError(
            f"{path}: no such file or folder; give fer2013.csv, a folder with train/ and test/, or an archive of either"
        )


def load_dataset(path: Path, side: int = FER2013_SIDE) -> Dataset:
    """Read a dataset in any of the forms that FER-2013 is downloaded in.

    Args:
        path: ``fer2013.csv`` or ``icml_face_data.csv``, a folder of class folders (with ``train`` and ``test``
            above them or not), or a zip or tar of either.  Images in folders may have any size and colours;
            they are read as face crops.
        side: side of the images to give, in pixels.

    Raises:
        DataError: it is missing, empty, damaged, unsafe or of none of these forms.
    """
    ensure_there(path)
    if path.is_dir():
        return _read_tree(_files(path), path, side)
    if path.suffix.lower() == ".zip":
        return _read_zip(path, side)
    if path.name.lower().endswith((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")):
        return _read_tar(path, side)
    with _as_data_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
        return _read_csv(file, str(path), side)


def with_votes(dataset: Dataset, path: Path) -> Dataset:
    """Add the FER+ votes to what was read from a FER-2013 CSV.

    Args:
        dataset: what was read from ``fer2013.csv``.
        path: ``fer2013new.csv`` of the FER+ project: a row for each row of ``fer2013.csv``, in its order.

    Raises:
        DataError: a column or a row is missing, or the rows are not those of the dataset.
    """
    with _as_data_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader: csv.DictReader[str] = csv.DictReader(file)
        missing = [c for c in ("Usage", *_VOTE_COLUMNS) if c not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; give FER+'s fer2013new.csv")
        rows = list(reader)
        if short := [number for number, row in enumerate(rows) if None in row.values() or None in row]:
            raise DataError(f"{path}, line {short[0] + 2}: not as many columns as its first line; download it again")
        if [usage_name(row["Usage"]) for row in rows] != dataset.usages.tolist():
            raise DataError(
                f"{path}: its {len(rows)} rows are not the {len(dataset)} rows of {dataset.name};"
                " give the fer2013new.csv and the fer2013.csv that belong together"
            )
        votes = np.array([[int(row[column]) for column in _VOTE_COLUMNS] for row in rows], np.float32)
    return replace(dataset, votes=votes)


def load_map(path: Path) -> LabelMap:
    """Read a label map.

    Args:
        path: a TOML file: ``order = [...]``, a table ``[all]`` and tables named as files or folders, each with lines
            ``old = "new"``.

    Raises:
        DataError: it cannot be read or is of another form.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as TOML ({first_line(error)}); correct it") from error
    order = tables.pop("order", [])
    named = {name: table for name, table in tables.items() if isinstance(table, dict)}
    texts = [
        *(order if isinstance(order, list) else [None]),
        *(new for table in named.values() for new in table.values()),
    ]
    if len(named) < len(tables) or not all(isinstance(t, str) for t in texts):
        raise DataError(f'{path}: not a label map; it holds order = ["..."] and tables with lines old = "new"')
    wanted = [canonical(label) for label in order]
    for where, names in [("order", wanted), *((f"[{name}]", map(canonical, table)) for name, table in named.items())]:
        if twice := [label for label, count in Counter(names).items() if count > 1]:
            raise DataError(f"{path}, {where}: {twice[0]} is there twice, maybe under two names for it; leave one out")
    return LabelMap(
        tuple(wanted),
        {name: {canonical(old): canonical(new) for old, new in table.items()} for name, table in named.items()},
    )


@contextmanager
def _as_data_errors(path: Path) -> Iterator[None]:
    """Turn what reading a file may raise into one line."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file; give fer2013.csv, a folder, or a zip of either") from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); download it again") from error


def _read_csv(file: Iterable[str], name: str, side: int) -> Dataset:
    """Read ``emotion,pixels[,Usage]``, columns in any order, their names with or without spaces around them."""
    reader = csv.reader(file)
    header = _header(reader)
    if missing := [column for column in ("emotion", "pixels") if column not in header]:
        raise DataError(
            f"{name}: no column {' or '.join(missing)} in its first line; FER-2013's CSV has emotion,pixels,Usage"
        )
    emotion_at, pixels_at = header.index("emotion"), header.index("pixels")
    usage_at = header.index("usage") if "usage" in header else None
    faces, classes, usages = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for row in reader:
            if not row:
                continue
            where = f"{name}, line {reader.line_num}"
            if len(row) < len(header):
                raise DataError(
                    f"{where}: {len(row)} of {len(header)} columns; the file was cut short: download it again"
                )
            face = _pixels(row[pixels_at], where)
            faces.append(face if side == FER2013_SIDE else whole_image(face, side, side))
            if row[emotion_at].strip() not in _NUMBERS:
                raise DataError(
                    f"{where}: emotion is {row[emotion_at][:20]!r}, not a number from 0 to {len(FER2013) - 1}"
                )
            classes.append(int(row[emotion_at]))
            usages.append(TRAINING if usage_at is None else usage_name(row[usage_at]))
    if not faces:
        raise DataError(f"{name}: no rows under its header")
    return Dataset(printable(name), FER2013, np.stack(faces), np.array(classes, np.int64), np.array(usages))


def _header(reader: Iterator[list[str]]) -> list[str]:
    return [column.strip().lower() for column in next(reader, [])]


def _pixels(text: str, where: str) -> npt.NDArray[np.uint8]:
    try:
        # In 64 bits, what is too large stays too large. Several times as fast as Python's own numbers.
        values = np.fromstring(text, np.int64, sep=" ")
    except (DeprecationWarning, ValueError):  # the first is what NumPy says of text that it cannot read to its end
        raise DataError(f"{where}: pixels that are not whole numbers") from None
    if values.size != FER2013_SIDE * FER2013_SIDE:
        raise DataError(
            f"{where}: {values.size} pixels, not {FER2013_SIDE * FER2013_SIDE} ({FER2013_SIDE}x{FER2013_SIDE})"
        )
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: pixels outside 0 to 255")
    return values.astype(np.uint8).reshape(FER2013_SIDE, FER2013_SIDE)


def _read_tree(entries: Iterable[_Entry], path: Path, side: int) -> Dataset:
    """Read images whose folder is their label and whose folder above that, if it has such a name, their usage.

    Images are decoded some hundred at a time, on every core, and go to disk: few are in memory at once.
    """
    names: list[str] = []
    aboves: list[str] = []
    skipped: list[str] = []
    spelling: dict[str, str] = {}  # one string for all images of a folder

    def decode(entry: _Entry) -> npt.NDArray[np.uint8] | DataError:
        name, data = entry
        if isinstance(data, DataError):
            return data
        try:
            return whole_image(decode_gray(data, str(path / name)), side, side)
        except DataError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as decoders, FaceStore(side) as store:
        for some in _groups(entries):
            faces = []
            for (name, _), face in zip(some, decoders.map(decode, some), strict=True):
                if isinstance(face, DataError):
                    skipped.append(printable(str(face)))
                    continue
                faces.append(face)
                names.append(spelling.setdefault(name.parts[-2], canonical(printable(name.parts[-2]))))
                above = name.parts[-3].lower() if len(name.parts) > 2 else ""
                aboves.append(spelling.setdefault(f"/{above}", above))
            store.add(faces)
        if not names:
            found = f" ({len(skipped)} could not be decoded)" if skipped else ""
            raise DataError(
                f"{path}: no images in class folders{found}; expected train/happy/1.png, test/sad/2.png, ..."
            )
        faces_on_disk = store.mapped()
    labels, names = _named(names, path)
    number = {label: i for i, label in enumerate(labels)}
    classes = np.array([number[name] for name in names], np.int64)
    return Dataset(printable(str(path)), labels, faces_on_disk, classes, _usages(aboves, path), tuple(skipped))


def _named(names: list[str], path: Path) -> tuple[tuple[str, ...], list[str]]:
    """The labels in order, and the label of each image; folders 0 to 6 are FER-2013's numbers."""
    if set(names) == set(_NUMBERS):
        names = [FER2013[int(name)] for name in names]
    present = set(names)
    labels = tuple(name for name in FER2013 if name in present) if present <= set(FER2013) else tuple(sorted(present))
    if flat := present & set(USAGES):
        raise DataError(f"{path}: images lie in {min(flat)}/ itself; put them into a folder for each class in it")
    return labels, names


def _groups(entries: Iterable[_Entry]) -> Iterator[list[_Entry]]:
    """Some entries at a time: not many, and not much."""
    some: list[_Entry] = []
    size = 0
    for entry in entries:
        some.append(entry)
        size += 0 if isinstance(entry[1], DataError) else len(entry[1])
        if len(some) == _DECODED_TOGETHER or size > _BYTES_TOGETHER:
            yield some
            some, size = [], 0
    yield some


def _usages(aboves: list[str], path: Path) -> npt.NDArray[np.str_]:
    """The part that each image belongs to by the folder above its class."""
    # One folder of another name may lie around the classes; several, or one beside train/, would be guesswork.
    unknown = sorted(set(aboves) - set(USAGES))
    if len(unknown) > 1 or (unknown and set(aboves) & set(USAGES)):
        shown = ", ".join(repr(name) for name in unknown[:5])
        raise DataError(
            f"{path}: folders above the classes that are no known part: {shown}; name them train, test or val"
        )
    return np.array([USAGES.get(above, TRAINING) for above in aboves])


def _files(folder: Path) -> Iterator[_Entry]:
    """The images under a folder, in the order of their names."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for place, inner, names in os.walk(folder, onerror=refuse):
        inner.sort()
        for name in sorted(names):
            path = Path(place, name)
            entry = PurePosixPath(path.relative_to(folder))
            if _in_class_folder(entry):
                try:
                    yield entry, read_bytes(path)
                except DataError as error:
                    yield entry, error


def _in_class_folder(entry: PurePosixPath) -> bool:
    return entry.suffix.lower() in IMAGE_SUFFIXES and len(entry.parts) > 1 and not _hidden(entry)


def _hidden(entry: PurePosixPath) -> bool:
    """Whether it is what macOS and notebooks leave beside the data."""
    return any(part.startswith(".") or part == "__MACOSX" for part in entry.parts)


def _read_zip(path: Path, side: int) -> Dataset:
    """Read from the archive itself: nothing is unpacked to disk, so no member can land outside a folder."""
    with _as_data_errors(path):
        try:
            archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: not a zip archive, or one cut short; download it again") from error
        with archive:
            members = _safe_members(path, archive)
            try:
                for name, info in members.items():
                    if name.suffix.lower() == ".csv" and not _hidden(name):
                        with archive.open(info) as raw:
                            table = _csv_of_faces(raw, f"{path}/{name}", side)
                        if table:
                            return table
                images = ((name, info) for name, info in members.items() if _in_class_folder(name))
                return _read_tree(((name, archive.read(info)) for name, info in images), path, side)
            except DAMAGED_ZIP as error:
                raise DataError(f"{path}: damaged or encrypted archive ({error}); download it again") from error


def _csv_of_faces(raw: IO[bytes], name: str, side: int) -> Dataset | None:
    """Read a table inside an archive; None where it is another one, such as a sample submission."""
    with io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
        try:
            first = file.readline(_HEADER_CHARACTERS)
        except UnicodeDecodeError:
            return None
        if not {"emotion", "pixels"} <= set(_header(csv.reader([first]))):
            return None
        return _read_csv(chain([first], file), name, side)


def _read_tar(path: Path, side: int) -> Dataset:
    """Read from the archive itself, member by member in its order: a compressed one has no other."""
    with _as_data_errors(path):
        try:
            with tarfile.open(path) as archive:
                for name, info in _safe_tar_members(path, archive):
                    if name.suffix.lower() == ".csv" and not _hidden(name) and (raw := archive.extractfile(info)):
                        table = _csv_of_faces(raw, f"{path}/{name}", side)
                        if table:
                            return table
            with tarfile.open(path) as archive:
                images = ((n, i) for n, i in _safe_tar_members(path, archive) if _in_class_folder(n))
                opened = ((name, archive.extractfile(info)) for name, info in images)
                return _read_tree(((name, raw.read()) for name, raw in opened if raw), path, side)
        except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError) as error:
            raise DataError(f"{path}: not a tar archive, or one cut short ({error}); download it again") from error


def _safe_tar_members(path: Path, archive: tarfile.TarFile) -> Iterator[tuple[PurePosixPath, tarfile.TarInfo]]:
    """The files of an archive, one by one; links and devices are passed over."""
    total = 0
    for count, info in enumerate(archive):
        if not info.isfile():
            continue
        name = _safe_name(path, info.name)
        total += info.size
        limit = _MAX_IMAGE if _in_class_folder(name) else _MAX_MEMBER
        if info.size > limit or count >= _MAX_MEMBERS or total > _MAX_UNPACKED:
            raise DataError(f"{path}: refused, it would unpack to {total} bytes with its member {info.name!r}")
        yield name, info


def too_dense(info: zipfile.ZipInfo) -> bool:
    """Whether a member of an archive would unpack to far more than images and tables do."""
    return info.file_size > max(_RATIO_FREE, _MAX_RATIO * info.compress_size)


def _safe_name(path: Path, text: str) -> PurePosixPath:
    name = PurePosixPath(text.replace("\\", "/"))
    if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
        raise DataError(f"{path}: refused, its member {text!r} points outside the archive")
    return name


def _safe_members(path: Path, archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files of an archive by name; any that is not what a dataset holds makes it refused whole."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = _safe_name(path, info.filename)
        if info.is_dir():
            continue
        if info.file_size > _MAX_MEMBER or too_dense(info):
            raise DataError(
                f"{path}: refused, its member {info.filename!r} would unpack from {info.compress_size}"
                f" to {info.file_size} bytes"
            )
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if len(members) > _MAX_MEMBERS or total > _MAX_UNPACKED:
        raise DataError(f"{path}: refused, it would unpack to {len(members)} files of {total} bytes")
    return members
