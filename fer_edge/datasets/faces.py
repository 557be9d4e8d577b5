"""Images with the faces in them marked, for face detectors to learn from, to be converted and to be measured by.

A folder with ``labels.csv``, ``ignore.csv`` and zips of images; without ``labels.csv``, images alone.
"""

from __future__ import annotations

import csv
import math
import zipfile
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.errors import DAMAGED_ZIP, DataError
from fer_edge.utils.image_io import IMAGE_SUFFIXES, decode_gray, read_gray

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

LABELS: Final = "labels.csv"
IGNORE: Final = "ignore.csv"
_BOX: Final = ("x", "y", "w", "h")
_LANDMARKS: Final = tuple(f"lm{i}{axis}" for i in range(5) for axis in "xy")


@dataclass(frozen=True, slots=True, eq=False)
class FaceImage:
    """An image and where its faces are, in its own pixels.

    Attributes:
        name: of its file.
        boxes: left, top, width and height of each face, float32 of shape (n, 4).
        scores: how sure it is that each is one, 0..1, float32 of shape (n,); 1 where nobody says.
        landmarks: eye on the image's left, other eye, nose tip, left and right corner of the mouth of each face,
            float32 of shape (n, 5, 2); not-a-number where nobody says.
        ignored: regions that count neither as face nor as background, as boxes, float32 of shape (m, 4).
    """

    name: str
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    landmarks: npt.NDArray[np.float32]
    ignored: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class FaceDataset:
    """Images with or without marked faces.

    Attributes:
        name: where they were read from.
        images: each of them; one without marks where ``labelled`` is false.
        labelled: whether somebody marked the faces.
        places: the zip or the file of each image.
    """

    name: str
    images: tuple[FaceImage, ...]
    labelled: bool
    places: tuple[zipfile.ZipFile | Path, ...]

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.images)

    def gray(self, i: int) -> npt.NDArray[np.uint8]:
        """One image, uint8 grey of shape (rows, columns); threads may read at once.

        Raises:
            DataError: it cannot be read.
        """
        place, name = self.places[i], self.images[i].name
        if not isinstance(place, zipfile.ZipFile):
            return read_gray(place)
        try:
            data = place.read(name)
        except (*DAMAGED_ZIP, OSError) as error:
            raise DataError(f"{place.filename}: {name} cannot be read; the file was cut short or changed") from error
        return decode_gray(data, f"{place.filename}: {name}")

    def some(self, rows: Iterable[int]) -> FaceDataset:
        """The images of these rows."""
        chosen = list(rows)
        images, places = tuple(self.images[i] for i in chosen), tuple(self.places[i] for i in chosen)
        return replace(self, images=images, places=places)


def load_faces(path: Path, part: str = "") -> FaceDataset:
    """Read a folder of marked images, or a folder or zip of images alone.

    Args:
        path: the folder or zip.
        part: the folder in it to read, such as ``val``; where it has none of that name, ``path`` itself is read.

    Raises:
        DataError: there is no such place, no image in it, or a damaged table.
    """
    folder = path / part if part and (path / part).is_dir() else path
    if not folder.exists():
        raise DataError(f"{path}: no such folder or zip")
    places = dict(_places(folder))
    if not places:
        raise DataError(f"{folder}: no images in it, nor in its zips")
    if not (folder / LABELS).is_file():
        bare = tuple(_image(name, [], []) for name in places)
        return FaceDataset(str(folder), bare, labelled=False, places=tuple(places.values()))
    ignored: dict[str, list[dict[str, str]]] = defaultdict(list)
    if (folder / IGNORE).is_file():
        for row in _rows(folder / IGNORE, ("file", *_BOX)):
            ignored[row["file"]] += [row] if row["x"] else []
    marked: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _rows(folder / LABELS, ("file", *_BOX)):
        marked[row["file"]] += [row] if row["x"] else []
    # Zips may be left out with the sources that are in them.
    there = [name for name in marked if name in places]
    if not there:
        raise DataError(f"{folder}: none of the images of {LABELS} is in its zips or beside it")
    images = tuple(_image(name, marked[name], ignored[name]) for name in there)
    return FaceDataset(str(folder), images, labelled=True, places=tuple(places[name] for name in there))


def _places(folder: Path) -> Iterator[tuple[str, zipfile.ZipFile | Path]]:
    """Each image's name and where it is, always in the same order."""
    if folder.is_file():
        yield from _zipped(folder)
        return
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            yield file.relative_to(folder).as_posix(), file
        elif file.suffix.lower() == ".zip":
            yield from _zipped(file)


def _zipped(path: Path) -> Iterator[tuple[str, zipfile.ZipFile]]:
    if path.suffix.lower() != ".zip":
        raise DataError(f"{path}: no images with marked faces; give a folder with labels.csv, or a zip of images")
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path}: not a zip, or a damaged one") from error
    for name in archive.namelist():
        if name.lower().endswith(tuple(IMAGE_SUFFIXES)):
            yield name, archive


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise DataError(f"{path}: no column {missing[0]}; it needs {', '.join(columns)}")
            for row in reader:
                if None in row.values():
                    raise DataError(f"{path}, line {reader.line_num}: too few columns")
                if row["x"] and (wrong := _wrong(row)):
                    raise DataError(f"{path}, line {reader.line_num}: {wrong}; mend the line or leave it out")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table; copy it again") from error


def _wrong(row: dict[str, str]) -> str:
    """What is wrong with a box's numbers, if anything."""
    for column in (*_BOX, *(name for name in ("score", *_LANDMARKS) if row.get(name))):
        try:
            finite = math.isfinite(float(row[column]))
        except ValueError:
            finite = False
        if not finite:
            return f"{column} is {row[column]!r}, which is no number"
    return "" if min(float(row["w"]), float(row["h"])) > 0 else f"a box of {row['w']}x{row['h']} pixels"


def _image(name: str, marked: list[dict[str, str]], ignored: list[dict[str, str]]) -> FaceImage:
    scores = [float(row.get("score") or 1) for row in marked]
    points = [[float(row.get(column) or "nan") for column in _LANDMARKS] for row in marked]
    return FaceImage(
        name=name,
        boxes=_boxes(marked),
        scores=np.array(scores, np.float32),
        landmarks=np.array(points, np.float32).reshape(-1, 5, 2),
        ignored=_boxes(ignored),
    )


def _boxes(rows: list[dict[str, str]]) -> npt.NDArray[np.float32]:
    return np.array([[float(row[column]) for column in _BOX] for row in rows], np.float32).reshape(-1, 4)
