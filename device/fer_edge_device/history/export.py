"""Write a history as a table: CSV, JSON Lines or Parquet.

Periods, by the minute, hour or day; ``seconds_<emotion>`` may be larger than ``observed_s``, because faces add up:

==================  ================================================================================================
column              content
==================  ================================================================================================
start               start of the period, in local time with its offset (ISO 8601)
observed_s          seconds in which frames were processed
mean_faces          mean number of faces in view while frames were processed; empty if none were
max_faces           largest number of faces in view at once
new_faces           number of faces that appeared
seconds_<emotion>   seconds in which faces showed the emotion
==================  ================================================================================================

Events: ``time`` as ``start`` above; ``x``, ``y``, ``width`` and ``height`` as fractions of the image's width and
height; the other columns as in `fer_edge_device.messages.Event`.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any, Final

from fer_edge.tagging.output.csv_cells import guard_cell
from fer_edge_device.history.periods import labels_of, local_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from fer_edge_device.history.rows import PastEvent, Period

SUFFIXES: Final = (".csv", ".jsonl", ".parquet")
_EVENT_TYPES: Final[dict[str, type]] = {
    "time": str,
    "event_type": str,
    "id": str,
    "emotion": str,
    "score": float,
    "previous": str,
    "duration_s": float,
    "x": float,
    "y": float,
    "width": float,
    "height": float,
    "model": str,
}


def write_periods(path: Path, periods: Sequence[Period]) -> None:
    """Write periods to a file, in the format that its suffix asks for."""
    labels = labels_of(periods)
    columns: dict[str, type] = {
        "start": str,
        "observed_s": float,
        "mean_faces": float,
        "max_faces": int,
        "new_faces": int,
        **{f"seconds_{label}": float for label in labels},
    }
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
    _write(path, columns, rows)


def write_events(path: Path, events: Sequence[PastEvent]) -> None:
    """Write events to a file, in the format that its suffix asks for."""
    labels = sorted({label for event in events for label in event.scores})
    columns = _EVENT_TYPES | {f"score_{label}": float for label in labels}
    rows = (
        (local_time(event.time), *event.values()[1:-1], *(event.scores.get(label) for label in labels))
        for event in events
    )
    _write(path, columns, rows)


def mean_faces(period: Period) -> float | None:
    """Return the mean number of faces in view while frames were processed; None if none were."""
    return round(period.face_s / period.observed_s, 3) if period.observed_s else None


def _write(path: Path, columns: dict[str, type], rows: Iterator[tuple[Any, ...]]) -> None:
    if path.suffix == ".parquet":
        _write_parquet(path, columns, rows)
    elif path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(map(guard_cell, columns))
            writer.writerows(map(guard_cell, row) for row in rows)
    else:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)


def _write_parquet(path: Path, columns: dict[str, type], rows: Iterable[tuple[Any, ...]]) -> None:
    import pyarrow as pa  # noqa: PLC0415 - an extra
    from pyarrow import parquet  # noqa: PLC0415 - an extra

    arrow_types = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    schema = pa.schema([pa.field(name, arrow_types[kind]) for name, kind in columns.items()])
    values = [*zip(*rows, strict=True)] or [()] * len(columns)
    arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
    parquet.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")
