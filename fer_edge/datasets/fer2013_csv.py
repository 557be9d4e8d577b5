"""Reading FER-2013's CSV."""

from __future__ import annotations

import csv
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.classification.crop import crop_whole_image
from fer_edge.classification.labels import FER2013
from fer_edge.datasets.dataset import TRAINING, Dataset, canonical_usage
from fer_edge.datasets.face_store import FaceStore
from fer_edge.errors import DataError, first_line, printable
from fer_edge.utils.bounded_file import csv_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.utils.bounded_file import TextLines

FER2013_SIDE: Final = 48
CLASS_NUMBERS: Final = tuple(map(str, range(len(FER2013))))
_MAX_USAGE_CHARACTERS: Final = 64
_MAX_USAGES: Final = 100  # different ones in a file
_MAX_VALUE_CHARACTERS: Final = 64  # of other columns


@contextmanager
def raise_data_errors(path: Path) -> Iterator[None]:
    """Raise a `DataError` with one clear line for each error of reading a file."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # from bz2 and gzip, which raise it for damaged data
            raise DataError(f"{path}: damaged ({first_line(error)}); download it again") from error
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file; give fer2013.csv, a folder, or a zip of either") from error
    except (csv.Error, OverflowError, ValueError) as error:
        raise DataError(f"{path}: damaged ({first_line(error)}); download it again") from error


def table_rank(first_line: str) -> int:
    """Return how good a table of faces is by the first line of its CSV: 2 with usages, 1 without, 0 for another table.

    FER-2013's archive holds ``train.csv``, which lacks usages, beside ``icml_face_data.csv``, which has all faces.
    """
    columns = set(_read_header(csv.reader([first_line])))
    return (1 + ("usage" in columns)) if {"emotion", "pixels"} <= columns else 0


def read_csv(lines: TextLines, name: str, side: int, columns: Sequence[str] = ()) -> Dataset:
    """Read a CSV with the columns ``emotion``, ``pixels`` and, optionally, ``Usage`` and others.

    Args:
        lines: lines of the file; the columns may be in any order, and their names may be surrounded by spaces.
        name: name of the file, for the dataset and for errors.
        side: rows and columns of the faces to return.
        columns: names of other columns to keep, in any case.

    Raises:
        DataError: a column is missing, a row is invalid, or there are no rows.
    """
    header = _read_columns(lines, name)
    places = {column: header.index(column.strip().lower()) for column in columns if column.strip().lower() in header}
    if unknown := [column for column in columns if column not in places]:
        raise DataError(f"{name}: no column {' or '.join(unknown)} in its first line; it has {', '.join(header)}")
    kept: dict[str, list[str]] = {column: [] for column in columns}
    emotion_at, pixels_at = header.index("emotion"), header.index("pixels")
    usage_at = header.index("usage") if "usage" in header else None
    classes: list[int] = []
    usages: list[str] = []
    interned: dict[str, str] = {}  # one string object for all rows of a part
    with warnings.catch_warnings(), FaceStore(side) as store:
        warnings.simplefilter("error", DeprecationWarning)
        lines.row_bytes = 0
        for number, row in enumerate(csv_rows(lines), 2):
            if not row:
                continue
            place = f"{name}, line {number}"
            if len(row) < len(header):
                raise DataError(
                    f"{place}: {len(row)} of {len(header)} columns; the file was cut short: download it again"
                )
            face = _parse_pixels(row[pixels_at], place)
            store.add([face if side == FER2013_SIDE else crop_whole_image(face, side, side)])
            if row[emotion_at].strip() not in CLASS_NUMBERS:
                raise DataError(
                    f"{place}: emotion is {row[emotion_at][:20]!r}, not a number from 0 to {len(FER2013) - 1}"
                )
            classes.append(int(row[emotion_at]))
            usage = TRAINING if usage_at is None else canonical_usage(row[usage_at])
            if len(usage) > _MAX_USAGE_CHARACTERS or len(interned) > _MAX_USAGES:
                raise DataError(f"{place}: Usage is {usage[:20]!r}, not a part such as Training")
            usages.append(interned.setdefault(usage, usage))
            for column, at in places.items():
                kept[column].append(printable(row[at].strip())[:_MAX_VALUE_CHARACTERS])
        if not classes:
            raise _no_rows(name)
        faces = store.map_faces()
    arrays = {column: np.array(values) for column, values in kept.items()}
    return Dataset(printable(name), FER2013, faces, np.array(classes, np.int64), np.array(usages), columns=arrays)


def check_first_row(lines: TextLines, name: str) -> None:
    """Check the columns of a CSV and that a row follows; see `read_csv`.

    Raises:
        DataError: a column is missing, or there are no rows.
    """
    _read_columns(lines, name)
    if not any(csv_rows(lines)):
        raise _no_rows(name)


def _no_rows(name: str) -> DataError:
    return DataError(f"{name}: no rows under its header")


def _read_columns(lines: TextLines, name: str) -> list[str]:
    """Return the names of the columns; see `read_csv`."""
    header = _read_header(csv.reader([next(lines, "")]))
    if missing := [column for column in ("emotion", "pixels") if column not in header]:
        raise DataError(
            f"{name}: no column {' or '.join(missing)} in its first line; FER-2013's CSV has emotion,pixels,Usage"
        )
    return header


def _read_header(reader: Iterator[list[str]]) -> list[str]:
    return [column.strip().lower() for column in next(reader, [])]


def _parse_pixels(text: str, place: str) -> npt.NDArray[np.uint8]:
    """Parse the pixels of a face, uint8 of shape (48, 48).

    Args:
        text: the numbers, separated by spaces.
        place: file and line, for errors.
    """
    try:
        # 64 bits keep numbers that are too large too large. This is several times as fast as converting each number.
        values = np.fromstring(text, np.int64, sep=" ")
    except (DeprecationWarning, ValueError):  # NumPy warns of a text that it cannot read to the end
        raise DataError(f"{place}: pixels that are not whole numbers") from None
    if values.size != FER2013_SIDE * FER2013_SIDE:
        raise DataError(
            f"{place}: {values.size} pixels, not {FER2013_SIDE * FER2013_SIDE} ({FER2013_SIDE}x{FER2013_SIDE})"
        )
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{place}: pixels outside 0 to 255")
    return values.astype(np.uint8).reshape(FER2013_SIDE, FER2013_SIDE)
