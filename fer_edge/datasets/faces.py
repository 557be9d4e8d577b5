"""Images with labelled faces, for training, calibrating and evaluating face detectors.

A dataset is a folder with ``labels.csv``, ``ignore.csv`` and zips of images. Without ``labels.csv`` it is a set of
unlabelled images.
"""

from __future__ import annotations

import csv
import math
import weakref
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fer_edge.errors import DataError
from fer_edge.utils.bounded_file import csv_rows, limited, open_regular, open_table
from fer_edge.utils.decompress import UnpackError
from fer_edge.utils.file_kinds import IMAGE_SUFFIXES, has_system_name
from fer_edge.utils.image_io import decode_gray, read_gray
from fer_edge.utils.limits import IMAGE_BYTES, TABLE_ROWS
from fer_edge.utils.zip_reader import ZipReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from fer_edge.utils.archive_member import ArchiveMember

LABELS: Final = "labels.csv"
IGNORE: Final = "ignore.csv"
_PARTS: Final = ("development", "test")
BOX_COLUMNS: Final = ("x", "y", "w", "h")
_LANDMARKS: Final = tuple(f"lm{i}{axis}" for i in range(5) for axis in "xy")


@dataclass(frozen=True, slots=True, eq=False)
class FaceImage:
    """The labels of an image, in its own pixels.

    Attributes:
        name: name of its file.
        boxes: left, top, width and height of each face, float32 of shape (n, 4).
        scores: confidence that each box is a face, 0..1, float32 of shape (n,); 1 if it is not given.
        landmarks: x and y of the left and right eye (as seen in the image), the nose tip, and the left and right
            corner of the mouth of each face, float32 of shape (n, 5, 2); not-a-number if they are not given.
        ignored: boxes of regions that count neither as face nor as background, float32 of shape (m, 4).
        not_faces: boxes of objects that somebody looked at and that are no faces, float32 of shape (k, 4).
        corrected: whether somebody corrected the labels.
    """

    name: str
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.float32]
    not_faces: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 4), np.float32))
    corrected: bool = False


class ZippedImage(NamedTuple):
    """An image in a zip.

    Attributes:
        archive: the zip.
        member: the image in it.
    """

    archive: Path
    member: ArchiveMember


@dataclass(frozen=True, slots=True, eq=False)
class FaceDataset:
    """Images with or without labelled faces.

    Attributes:
        name: folder or zip of the dataset.
        images: labels of each image; without faces if ``labelled`` is false.
        labelled: whether the faces are labelled.
        files: zip or file of each image.
    """

    name: str
    images: tuple[FaceImage, ...]
    labelled: bool
    files: tuple[ZippedImage | Path, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def gray(self, i: int) -> npt.NDArray[np.uint8]:
        """Read one image; several threads may do so at a time.

        Args:
            i: index of the image.

        Returns:
            uint8 grey image of shape (rows, columns).

        Raises:
            DataError: the image cannot be read.
        """
        file, name = self.files[i], self.images[i].name
        if isinstance(file, Path):
            return read_gray(file)
        try:
            data = file.member.read(IMAGE_BYTES)
        except UnpackError as error:
            raise DataError(f"{file.archive}: {name} cannot be read; the file was cut short or changed") from error
        return decode_gray(data, f"{file.archive}: {name}")

    def subset(self, indices: Iterable[int]) -> FaceDataset:
        """Return the dataset with only some of its images."""
        wanted = list(indices)
        images, files = tuple(self.images[i] for i in wanted), tuple(self.files[i] for i in wanted)
        return replace(self, images=images, files=files)


def load_faces(path: Path, part: str = "") -> FaceDataset:
    """Read a folder of labelled images, or a folder or zip of unlabelled ones.

    Args:
        path: the folder or zip.
        part: folder inside it to read, such as ``val``; if it does not exist, ``path`` itself is read.

    Raises:
        DataError: the path does not exist or contains no images, or a table is damaged.
    """
    folder = path / part if part and (path / part).is_dir() else path
    if not folder.exists():
        raise DataError(
            f"{path}: no such folder or zip; give a folder of images, or one with train/ and val/, each with"
            f" {LABELS} and its images"
        )
    files = dict(_find_images(folder))
    if not files:
        raise DataError(f"{folder}: no images in it or in its zips")
    if not (folder / LABELS).is_file():
        unlabelled = tuple(_parse_image(name, [], []) for name in files)
        return FaceDataset(str(folder), unlabelled, labelled=False, files=tuple(files.values()))
    ignored = _rows_by_image(folder / IGNORE) if (folder / IGNORE).is_file() else {}
    labelled = _rows_by_image(folder / LABELS)
    # Some of the zips may be missing on purpose, so labels without an image are no error.
    present = [name for name in labelled if name in files]
    if not present:
        raise DataError(f"{folder}: none of the images of {LABELS} is in its zips or beside it")
    images = tuple(_parse_image(name, labelled[name], ignored.get(name, [])) for name in present)
    return FaceDataset(str(folder), images, labelled=True, files=tuple(files[name] for name in present))


def without_test_images(datasets: Sequence[FaceDataset], split: Path) -> list[FaceDataset]:
    """Leave out the images that are reserved for tests, so that nothing is chosen by them.

    Args:
        datasets: any images.
        split: a table with the columns ``file`` and ``part``, which is ``development`` or ``test``. Images that it
            does not list are kept.

    Raises:
        DataError: the table cannot be read, lists none of the images, or reserves all images of a dataset.
    """
    parts = {}
    for number, row in enumerate(read_rows(split, ("file", "part")), 2):
        if row["part"] not in _PARTS:
            raise DataError(f"{split}, line {number}: part is {row['part']!r}, not {' or '.join(_PARTS)}")
        parts[row["file"]] = row["part"]
    if not any(image.name in parts for data in datasets for image in data.images):
        raise DataError(f"{split}: it lists none of the images in {datasets[0].name}; give the table of these images")
    kept = [
        data.subset(i for i, image in enumerate(data.images) if parts.get(image.name) != "test") for data in datasets
    ]
    for before, after in zip(datasets, kept, strict=True):
        if not len(after):
            raise DataError(f"{split}: all images in {before.name} are reserved for tests; give others, too")
    return kept


def _rows_by_image(table: Path) -> dict[str, list[dict[str, str]]]:
    """Read a table of boxes; an image without boxes has a row with an empty ``x``."""
    rows: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read_rows(table, ("file", *BOX_COLUMNS)):
        rows[row["file"]] += [row] if row["x"] else []
    return rows


def _find_images(folder: Path) -> Iterator[tuple[str, ZippedImage | Path]]:
    """Yield each image's name and its zip or file, always in the same order."""
    if folder.is_file():
        yield from _find_zipped(folder)
        return
    for file in sorted(folder.rglob("*")):
        if has_system_name(file.relative_to(folder).parts):
            continue
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file.relative_to(folder).as_posix(), file
        elif file.suffix.lower() == ".zip":
            yield from _find_zipped(file)


def _find_zipped(path: Path) -> Iterator[tuple[str, ZippedImage]]:
    if path.suffix.lower() != ".zip":
        raise DataError(f"{path}: no images with labelled faces; give a folder with labels.csv, or a zip of images")
    file = open_regular(path)
    try:
        archive = ZipReader(file)
    except UnpackError as error:
        file.close()
        raise DataError(f"{path}: not a zip, or a damaged one") from error
    weakref.finalize(archive, file.close)  # when the dataset is gone
    for member in archive.members:
        name = member.name
        if name.lower().endswith(tuple(IMAGE_SUFFIXES)) and not has_system_name(name.split("/")):
            yield name, ZippedImage(path, member)


def read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the rows of a table of boxes.

    Raises:
        DataError: the table cannot be read, lacks a column, or has a number that is none.
    """
    try:
        with open_table(path) as lines:
            rows = csv_rows(lines)
            head = next(rows, [])
            if missing := [name for name in columns if name not in head]:
                raise DataError(f"{path}: no column {missing[0]}; it needs {', '.join(columns)}")
            for number, cells in enumerate(limited(rows, TABLE_ROWS, str(path)), 2):
                if not cells:
                    continue
                if len(cells) < len(head):
                    raise DataError(f"{path}, line {number}: too few columns")
                row = dict(zip(head, cells, strict=False))
                if row.get("x") and (problem := _find_problem(row)):
                    raise DataError(f"{path}, line {number}: {problem}; correct the line or delete it")
                yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table; copy it again") from error


def _find_problem(row: dict[str, str]) -> str:
    """Describe what is wrong with a row's numbers; return an empty text if they are valid."""
    for column in (*BOX_COLUMNS, *(name for name in ("score", *_LANDMARKS) if row.get(name))):
        try:
            finite = math.isfinite(float(row[column]))
        except ValueError:
            finite = False
        if not finite:
            return f"{column} is {row[column]!r}, which is not a number"
    return "" if min(float(row["w"]), float(row["h"])) > 0 else f"a box of {row['w']}x{row['h']} pixels"


def _parse_image(name: str, labelled: list[dict[str, str]], ignored: list[dict[str, str]]) -> FaceImage:
    scores = [float(row.get("score") or 1) for row in labelled]
    points = [[float(row.get(column) or "nan") for column in _LANDMARKS] for row in labelled]
    return FaceImage(
        name=name,
        boxes=parse_boxes(labelled),
        scores=np.array(scores, np.float32),
        landmarks=np.array(points, np.float32).reshape(-1, 5, 2),
        ignored=parse_boxes(ignored),
    )


def parse_boxes(rows: list[dict[str, str]]) -> npt.NDArray[np.float32]:
    """Return the boxes of rows of a table, float32 of shape (n, 4)."""
    return np.array([[float(row[column]) for column in BOX_COLUMNS] for row in rows], np.float32).reshape(-1, 4)
