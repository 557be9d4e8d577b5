"""Write a history as a table: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, Final

from fer_edge.tagging.output.column import Column
from fer_edge.tagging.output.csv_cells import guard_cell
from fer_edge_device.history.periods import labels_of, local_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from fer_edge_device.history.rows import PastEvent, Period

SUFFIXES: Final = (".csv", ".jsonl", ".parquet")


def period_columns(labels: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of a table of periods, in order."""
    return (
        Column("start", str, "start of the period, in local time with its offset", "in the form of ISO 8601"),
        Column("observed_s", float, "time in which frames were processed", "in seconds"),
        Column("mean_faces", float, "mean number of faces in view in that time; empty if there was none"),
        Column("max_faces", int, "largest number of faces in view at once"),
        Column("new_faces", int, "number of faces that appeared"),
        *(
            Column(
                f"seconds_{label}",
                float,
                "time in which faces showed the emotion, or in which it was `unclear`; two faces count twice, so it may"
                " exceed `observed_s`",
                "in seconds",
            )
            for label in labels
        ),
    )


def event_columns(labels: Iterable[str]) -> tuple[Column, ...]:
    """Return the columns of a table of events, in order."""
    return (
        Column("time", str, "when it happened, in local time with its offset", "in the form of ISO 8601"),
        Column("event_type", str, "`new`, `update` or `end`"),
        Column("id", str, "the track; never a person"),
        Column("emotion", str, "emotion of the face; for `end`, the last one"),
        Column("score", float, "smoothed score of that emotion", "0 to 1"),
        Column("previous", str, "for an `update`, the emotion before; otherwise empty"),
        Column("duration_s", float, "time for which the face had been in view", "in seconds"),
        Column("x", float, "left edge of the face", "as a fraction of the image's width"),
        Column("y", float, "top edge", "as a fraction of the image's height"),
        Column("width", float, "width of the face", "as a fraction of the image's width"),
        Column("height", float, "height of the face", "as a fraction of the image's height"),
        Column("model", str, "name of the model and the first digits of its SHA-256"),
        Column("reliable", int, "1 if the face was large, sharp and frontal enough to tell its emotion, otherwise 0"),
        *(Column(f"score_{label}", float, "smoothed score of each emotion", "0 to 1") for label in labels),
    )


def write_periods(path: Path, periods: Sequence[Period]) -> None:
    """Write periods to a file, in the format that its suffix asks for."""
    labels = labels_of(periods)
    rows = (
        (
            local_time(period.start),
            round(period.observed_s, 1),
            mean_faces(period),
            period.max_faces,
            period.new_faces,
            *(round(period.emotion_s.get(label, 0.0), 1) for label in labels),
        )
        for period in periods
    )
    _write(path, period_columns(labels), rows)


def write_events(path: Path, events: Sequence[PastEvent]) -> None:
    """Write events to a file, in the format that its suffix asks for."""
    labels = sorted({label for event in events for label in event.scores})
    rows = (
        (local_time(event.time), *event.values()[1:-1], *(event.scores.get(label) for label in labels))
        for event in events
    )
    _write(path, event_columns(labels), rows)


def mean_faces(period: Period) -> float | None:
    """Return the mean number of faces in view while frames were processed; None if none were."""
    return round(period.face_s / period.observed_s, 3) if period.observed_s else None


def _write(path: Path, columns: Sequence[Column], rows: Iterator[tuple[Any, ...]]) -> None:
    if path.suffix == ".parquet":
        _write_parquet(path, columns, rows)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(guard_cell(column.name) for column in columns)
            writer.writerows(map(guard_cell, row) for row in rows)
    else:
        with path.open("w", encoding="utf-8") as file:
            names = [column.name for column in columns]
            file.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows)


def _write_parquet(path: Path, columns: Sequence[Column], rows: Iterable[tuple[Any, ...]]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    arrow_types = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    schema = pa.schema([pa.field(column.name, arrow_types[column.kind]) for column in columns])
    values = [*zip(*rows, strict=True)] or [()] * len(columns)
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")
