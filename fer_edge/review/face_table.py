"""Reading ``faces.csv``, which says what a model saw in each face of a folder."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.classification.labels import canonical_label
from fer_edge.errors import DataError, first_line, one_line, printable
from fer_edge.review.choices import emotion_problem
from fer_edge.tagging.output.csv_cells import unguard_cell
from fer_edge.utils.bounded_file import csv_rows, limited, open_table
from fer_edge.utils.limits import TABLE_ROWS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

_SCORE: Final = "score_"  # begins the name of a column with the score of a label
_MAX_TEXT: Final = 200  # characters of a group, a reason or a time


class Prediction(NamedTuple):
    """What a model saw in a face, and where the face is from; everything but `scores` may be empty.

    Attributes:
        scores: score of each emotion, 0..1; empty if nothing is predicted.
        emotion: the predicted emotion.
        sha256: hash of the image file.
        time: when the face was seen.
        reason: why it was collected.
        group: what keeps the pictures of one person or occasion together.
    """

    scores: Mapping[str, float]
    emotion: str = ""
    sha256: str = ""
    time: str = ""
    reason: str = ""
    group: str = ""


class FaceTable(NamedTuple):
    """The content of a table.

    Attributes:
        emotions: the emotions that the table has scores for, in order.
        rows: the row of each file, by its name.
        faults: one line for each row that cannot be used.
    """

    emotions: tuple[str, ...]
    rows: dict[str, Prediction]
    faults: tuple[str, ...]


def read_face_table(path: Path, files: Collection[str]) -> FaceTable:
    """Read a table of faces.

    Args:
        path: the table; it need not exist.
        files: names of the image files; rows of others are left out.

    Raises:
        DataError: the table cannot be read, has no column ``file``, or scores of a label that no folder can have.
    """
    if not path.exists():
        return FaceTable((), {}, ())
    with open_table(path, "surrogateescape") as lines:
        try:
            return _read_records(limited(csv_rows(lines), TABLE_ROWS, str(path)), path, files)
        except (OSError, csv.Error) as error:
            raise DataError(f"{path}: damaged ({first_line(error)}); get it again, or remove it") from error


def _read_records(records: Iterator[list[str]], path: Path, files: Collection[str]) -> FaceTable:
    rows: dict[str, Prediction] = {}
    faults: list[str] = []
    head = next(records, [])
    if "file" not in head:
        raise DataError(f"{path}: no column file; without this table, a model predicts the faces")
    emotions = _read_emotions(head, path)
    scores = {name: canonical_label(name.removeprefix(_SCORE)) for name in head if name.startswith(_SCORE)}
    for number, record in enumerate(records, 2):
        values = dict(zip(head, map(unguard_cell, record), strict=False))
        name = values.get("file", "")
        if name not in files or name in rows:
            continue
        row = _read_row(values, scores) if len(record) == len(head) else None
        if row:
            rows[name] = row
        else:
            faults.append(f"{path}, line {number}: a value is missing or none; the row is not used")
    return FaceTable(emotions, rows, tuple(faults))


def _read_emotions(head: list[str], path: Path) -> tuple[str, ...]:
    emotions = tuple(
        dict.fromkeys(canonical_label(name.removeprefix(_SCORE)) for name in head if name.startswith(_SCORE))
    )
    for emotion in emotions:
        if problem := emotion_problem(emotion):
            raise DataError(f"{path}: {problem}; rename its column")
    return emotions


def _read_row(values: Mapping[str, str], columns: Mapping[str, str]) -> Prediction | None:
    """Return what a row says; None if a value is none.

    Args:
        values: its cells, by the names of their columns.
        columns: the emotion of each column of scores, by its name.
    """
    texts = {name: printable(values.get(name, "")).strip() for name in ("sha256", "time", "reason", "group")}
    if any(len(text) > _MAX_TEXT or one_line(text) != text for text in texts.values()):
        return None
    # A cell is empty if the face was scored by a model that does not have this label.
    cells = {emotion: text for name, emotion in columns.items() if (text := values[name])}
    try:
        scores = {emotion: float(text) for emotion, text in cells.items()}
    except ValueError:
        return None
    if not all(math.isfinite(score) and 0 <= score <= 1 for score in scores.values()):
        return None
    emotion = canonical_label(values.get("emotion", ""))
    if scores and emotion not in scores:
        emotion = max(scores, key=scores.__getitem__)
    return Prediction(scores, emotion if scores else "", texts["sha256"].lower(), *[*texts.values()][1:])
