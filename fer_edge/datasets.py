"""Labelled face pictures: FER-2013 as CSV, as a tree of folders, or as a zip of either."""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TextIO

import numpy as np

from fer_edge.crop import whole_picture
from fer_edge.emotions import FER2013, FERPLUS_VOTES, canonical
from fer_edge.errors import DataError
from fer_edge.pictures import PICTURE_SUFFIXES, decode_gray, read_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

TRAINING: Final = "Training"
_USAGES: Final = {
    **dict.fromkeys(("train", "training", "fer2013train"), TRAINING),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "dev"), "validation"),
    **dict.fromkeys(("publictest", "fer2013valid"), "PublicTest"),
    **dict.fromkeys(("privatetest", "fer2013test"), "PrivateTest"),
}
_NUMBERS: Final = tuple(map(str, range(len(FER2013))))
_SIDE: Final = 48  # FER-2013's pictures are 48 x 48
_VOTE_COLUMNS: Final = (
    *("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"),
    *("unknown", "NF"),
)

# Generous for any face dataset, small for a disk: what an archive may unpack to.
_MAX_MEMBERS: Final = 2_000_000
_MAX_UNPACKED: Final = 16 << 30
_MAX_MEMBER: Final = 2 << 30
_MAX_RATIO: Final = 100  # FER-2013's CSV packs about 3 to 1
_RATIO_FREE: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Dataset:
    """Face pictures with their labels.

    Attributes:
        name: where it was read from.
        labels: names of the classes.
        faces: uint8 grey pictures of shape (n, 48, 48).
        classes: index into ``labels`` of each face, int64 of shape (n,).
        usages: the part each face belongs to (``Training``, ``PublicTest``, ``test``, ...), str of shape (n,).
        skipped: one line for each picture that could not be read.
    """

    name: str
    labels: tuple[str, ...]
    faces: npt.NDArray[np.uint8]
    classes: npt.NDArray[np.int64]
    usages: npt.NDArray[np.str_]
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the arrays belong together."""
        if not len(self.faces) == len(self.classes) == len(self.usages):
            message = f"lengths differ: {len(self.faces)}, {len(self.classes)}, {len(self.usages)}"
            raise ValueError(message)

    def __len__(self) -> int:
        """How many faces there are."""
        return len(self.faces)

    def part(self, chosen: npt.NDArray[np.bool_]) -> Dataset:
        """The faces where ``chosen``, bool of shape (n,), is true."""
        return Dataset(self.name, self.labels, self.faces[chosen], self.classes[chosen], self.usages[chosen])

    def usage(self, name: str | None = None) -> Dataset:
        """The faces of one usage; without a name, those to test on.

        Those to test on are all that are not for training, or all where there is but one usage.

        Raises:
            DataError: there is no such usage.
        """
        present = sorted(set(self.usages.tolist()))
        if name is None:
            return self if len(present) == 1 else self.part(self.usages != TRAINING)
        wanted = _usage(name)
        if wanted not in present:
            raise DataError(f"{self.name}: no rows of usage {name}; it has {', '.join(present)}")
        return self.part(self.usages == wanted)

    def classes_for(self, labels: tuple[str, ...]) -> npt.NDArray[np.int64]:
        """The faces' classes as indices into a model's labels.

        Raises:
            DataError: a face has a label that the model does not know.
        """
        used = np.unique(self.classes)
        unknown = [self.labels[i] for i in used if self.labels[i] not in labels]
        if unknown:
            raise DataError(
                f"{self.name}: the model does not know {', '.join(unknown)}; it knows {', '.join(labels)}:"
                " give data with those labels"
            )
        table = np.array([labels.index(label) if label in labels else -1 for label in self.labels])
        return table[self.classes]


def load_dataset(path: Path) -> Dataset:
    """Read a dataset in any of the forms that FER-2013 is downloaded in.

    Args:
        path: ``fer2013.csv``, a folder of class folders (with ``train`` and ``test`` above them or not), or a
            zip of either.  Pictures in folders may have any size; they are read as face crops.

    Raises:
        DataError: it is missing, empty, damaged, unsafe or of none of these forms.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give fer2013.csv, a folder with train/ and test/, or a zip")
    if path.is_dir():
        files = (p for p in sorted(path.rglob("*")) if p.is_file())
        return _read_tree(((PurePosixPath(p.relative_to(path)), partial(read_bytes, p)) for p in files), path)
    if path.suffix.lower() == ".zip":
        return _read_zip(path)
    with _as_data_errors(path), path.open(newline="", encoding="utf-8-sig") as file:
        return _read_csv(file, str(path))


def load_votes(path: Path, dataset: Dataset) -> npt.NDArray[np.float32]:
    """Read the FER+ votes for the rows of a FER-2013 CSV.

    Args:
        path: ``fer2013new.csv`` of the FER+ project: a row for each row of ``fer2013.csv``, in its order.
        dataset: what was read from that ``fer2013.csv``.

    Returns:
        Votes for each of the dataset's labels, float32 of shape (n, labels); votes for anything else are left out.

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
        if [_usage(row["Usage"]) for row in rows] != dataset.usages.tolist():
            raise DataError(
                f"{path}: its {len(rows)} rows are not the {len(dataset)} rows of {dataset.name};"
                " give the fer2013new.csv and the fer2013.csv that belong together"
            )
        votes = np.zeros((len(rows), len(dataset.labels)), np.float32)
        for column, label in zip(_VOTE_COLUMNS, FERPLUS_VOTES, strict=False):
            if label in dataset.labels:
                votes[:, dataset.labels.index(label)] = [int(row[column]) for row in rows]
    return votes


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


def _read_csv(file: TextIO, name: str) -> Dataset:
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
    for row in reader:
        if not row:
            continue
        where = f"{name}, line {reader.line_num}"
        if len(row) < len(header):
            raise DataError(f"{where}: {len(row)} of {len(header)} columns; the file was cut short: download it again")
        faces.append(_pixels(row[pixels_at], where))
        if row[emotion_at].strip() not in _NUMBERS:
            raise DataError(f"{where}: emotion is {row[emotion_at][:20]!r}, not a number from 0 to {len(FER2013) - 1}")
        classes.append(int(row[emotion_at]))
        usages.append(TRAINING if usage_at is None else _usage(row[usage_at]))
    if not faces:
        raise DataError(f"{name}: no rows under its header")
    return Dataset(name, FER2013, np.stack(faces), np.array(classes, np.int64), np.array(usages))


def _usage(name: str) -> str:
    """One spelling for a part's name."""
    return _USAGES.get(name.strip().lower(), name.strip())


def _header(reader: Iterator[list[str]]) -> list[str]:
    return [column.strip().lower() for column in next(reader, [])]


def _pixels(text: str, where: str) -> npt.NDArray[np.uint8]:
    try:
        values = np.array(text.split(), np.int32)
    except (ValueError, OverflowError):
        raise DataError(f"{where}: pixels that are not whole numbers") from None
    if values.size != _SIDE * _SIDE:
        raise DataError(f"{where}: {values.size} pixels, not {_SIDE * _SIDE} ({_SIDE}x{_SIDE})")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: pixels outside 0 to 255")
    return values.astype(np.uint8).reshape(_SIDE, _SIDE)


def _read_tree(entries: Iterable[tuple[PurePosixPath, Callable[[], bytes]]], path: Path) -> Dataset:
    """Read pictures whose folder is their label and whose folder above that, if it has such a name, their usage."""
    faces, names, aboves, skipped = [], [], [], []
    for entry, read in entries:
        if not _in_class_folder(entry):
            continue
        try:
            faces.append(whole_picture(decode_gray(read(), str(path / entry)), _SIDE, _SIDE))
        except DataError as error:
            skipped.append(str(error))
            continue
        names.append(canonical(entry.parts[-2]))
        aboves.append(entry.parts[-3].lower() if len(entry.parts) > 2 else "")
    if not faces:
        found = f" ({len(skipped)} could not be decoded)" if skipped else ""
        raise DataError(f"{path}: no pictures in class folders{found}; expected train/happy/1.png, test/sad/2.png, ...")
    # One folder of another name may lie around the classes; several, or one beside train/, would be guesswork.
    unknown = sorted(set(aboves) - set(_USAGES))
    if len(unknown) > 1 or (unknown and set(aboves) & set(_USAGES)):
        shown = ", ".join(repr(name) for name in unknown[:5])
        raise DataError(
            f"{path}: folders above the classes that are no known part: {shown}; name them train, test or val"
        )
    if set(names) == set(_NUMBERS):
        names = [FER2013[int(name)] for name in names]
    present = set(names)
    labels = tuple(name for name in FER2013 if name in present) if present <= set(FER2013) else tuple(sorted(present))
    if len(labels) < 2:
        raise DataError(f"{path}: one class folder only ({labels[0]}); give at least two")
    classes = np.array([labels.index(name) for name in names], np.int64)
    usages = np.array([_USAGES.get(above, TRAINING) for above in aboves])
    return Dataset(str(path), labels, np.stack(faces), classes, usages, tuple(skipped))


def _in_class_folder(entry: PurePosixPath) -> bool:
    return entry.suffix.lower() in PICTURE_SUFFIXES and len(entry.parts) > 1 and "__MACOSX" not in entry.parts


def _read_zip(path: Path) -> Dataset:
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
                    if name.suffix.lower() == ".csv":
                        with archive.open(info) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
                            if not {"emotion", "pixels"} <= set(_header(csv.reader(file))):
                                continue  # such as a sample submission
                            file.seek(0)
                            return _read_csv(file, f"{path}/{name}")
                return _read_tree(((name, partial(archive.read, info)) for name, info in members.items()), path)
            except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                raise DataError(f"{path}: damaged or encrypted archive ({error}); download it again") from error


def _safe_members(path: Path, archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files of an archive by name; any that is not what a dataset holds makes it refused whole."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = PurePosixPath(info.filename.replace("\\", "/"))
        if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise DataError(f"{path}: refused, its member {info.filename!r} points outside the archive")
        if info.is_dir():
            continue
        too_dense = info.file_size > max(_RATIO_FREE, _MAX_RATIO * info.compress_size)
        if info.file_size > _MAX_MEMBER or too_dense:
            raise DataError(
                f"{path}: refused, its member {info.filename!r} would unpack from {info.compress_size}"
                f" to {info.file_size} bytes"
            )
        members[name] = info
    total = sum(info.file_size for info in members.values())
    if len(members) > _MAX_MEMBERS or total > _MAX_UNPACKED:
        raise DataError(f"{path}: refused, it would unpack to {len(members)} files of {total} bytes")
    return members
