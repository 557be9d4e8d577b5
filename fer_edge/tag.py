"""Tagging old pictures in bulk: a folder in, a table of faces out."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TextIO

import cv2

from fer_edge.analyse import expressions
from fer_edge.errors import DataError, InputError, first_line
from fer_edge.files import replacing
from fer_edge.pictures import PICTURE_SUFFIXES, read_gray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from fer_edge.analyse import Expression
    from fer_edge.classify import Classifier
    from fer_edge.faces import FaceDetector


@dataclass(frozen=True, slots=True)
class Row:
    """One face of a picture, a picture without a face, or a picture that could not be read.

    Attributes:
        path: the picture.
        face: what was found; None where nothing was.
        error: why the picture could not be read; empty where it could.
    """

    path: Path
    face: Expression | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts over a whole run: pictures looked at, faces found, pictures that could not be read, faces by emotion."""

    pictures: int
    faces: int
    errors: int
    emotions: dict[str, int]


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Pictures among files and, recursively, in folders, each once, in order of name within a folder.

    A file that is named is taken whatever its ending; in folders only known endings are.

    Raises:
        InputError: a path does not exist, or there is no picture in any of them.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise InputError(f"{path}: no such file or folder")
    if not found:
        endings = " ".join(sorted(PICTURE_SUFFIXES))
        raise InputError(f"{', '.join(map(str, paths))}: no pictures ({endings})")
    return list(found)


def tag(
    pictures: Iterable[Path],
    out: Path,
    detector: FaceDetector | None,
    classifier: Classifier,
    seen: Callable[[], None] = lambda: None,
) -> Summary:
    """Write a table of the faces in pictures; it appears whole, when the last picture is done.

    Args:
        pictures: files to look at.
        out: ``.jsonl`` or ``.csv``.
        detector: what finds faces; None where each picture is a face crop.
        classifier: what scores them.
        seen: called after each picture.

    Raises:
        InputError: ``out`` has another ending or cannot be written.
    """
    labels = classifier.card.labels
    make_writer = _WRITERS.get(out.suffix.lower())
    if make_writer is None:
        raise InputError(f"{out}: unknown kind of table; end it in {' or '.join(_WRITERS)}")
    count = faces = errors = 0
    emotions = dict.fromkeys(labels, 0)
    with replacing(out) as temporary, temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as f:
        writer = make_writer(f, labels)
        for picture in pictures:
            count += 1
            for row in _rows(picture, detector, classifier):
                writer.append(row)
                errors += bool(row.error)
                if row.face:
                    faces += 1
                    emotions[row.face.emotion] += 1
            seen()
    return Summary(count, faces, errors, emotions)


def _rows(picture: Path, detector: FaceDetector | None, classifier: Classifier) -> Iterator[Row]:
    try:
        found = expressions(read_gray(picture), detector, classifier)
    except DataError as error:
        yield Row(picture, error=str(error))
        return
    except (cv2.error, MemoryError) as error:  # one odd picture must not cost the rows of all the others
        yield Row(picture, error=f"{picture}: cannot be looked at ({first_line(error)})")
        return
    yield from (Row(picture, face) for face in found)
    if not found:
        yield Row(picture)


class _Writer(Protocol):
    def append(self, row: Row) -> None: ...


class _JsonLines:
    def __init__(self, file: TextIO, labels: tuple[str, ...]) -> None:  # noqa: ARG002 - rows name their labels
        self._file = file

    def append(self, row: Row) -> None:
        face = row.face
        fields = {
            "path": str(row.path),
            "box": face.box if face else None,
            "emotion": face.emotion if face else None,
            "score": face.score if face else None,
            "scores": face.scores if face else None,
            "error": row.error or None,
        }
        self._file.write(json.dumps(fields, ensure_ascii=True) + "\n")


class _Csv:
    def __init__(self, file: TextIO, labels: tuple[str, ...]) -> None:
        self._writer = csv.writer(file)
        columns = ("path", "x", "y", "width", "height", "emotion", "score")
        self._writer.writerow((*columns, *(f"score_{label}" for label in labels), "error"))
        self._blank = ("",) * (len(columns) - 1 + len(labels))

    def append(self, row: Row) -> None:
        face = row.face
        values = (*face.box, face.emotion, face.score, *face.scores.values()) if face else self._blank
        self._writer.writerow((row.path, *values, row.error))


_WRITERS: dict[str, Callable[[TextIO, tuple[str, ...]], _Writer]] = {".jsonl": _JsonLines, ".csv": _Csv}
