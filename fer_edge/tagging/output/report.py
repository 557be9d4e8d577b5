"""Make an HTML page about tables of faces."""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_edge.errors import printable
from fer_edge.reports.html import data_url, render
from fer_edge.reports.svg_plot import bars
from fer_edge.tagging.input.dates import date_of
from fer_edge.tagging.output.face_crops import crop_row
from fer_edge.tagging.output.statistics import SCORE_BINS, TableStatistics
from fer_edge.tagging.output.table_reader import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.tagging.input.dates import ImageDate
    from fer_edge.tagging.output.table_reader import TableRow

# For at most so many days between the first and the last image, bars are labelled in this form.
_DATE_FORMS = ((2, "%m-%d %H:00"), (90, "%Y-%m-%d"), (1500, "%Y-%m"), (10**9, "%Y"))


def make_report(tables: Sequence[Path], *, images: bool = True) -> str:
    """Return a page about tables of faces.

    Args:
        tables: Tables that `fer-edge tag` wrote.
        images: Whether to open the images, to show faces and to find out dates.

    Raises:
        InputError: A file is not such a table.
        MissingExtraError: A table is Parquet, and pyarrow is not installed.
    """
    statistics = TableStatistics()
    for table in tables:
        with closing(read_table(table)) as rows:
            statistics.add_table(rows)
    has_faces = bool(statistics.labels)
    return render(
        "tags.html",
        title="Faces and their expressions",
        tables=", ".join(printable(str(table)) for table in tables),
        counts=_count(statistics),
        scores=_plot_scores(statistics) if has_faces else None,
        videos=_plot_videos(statistics),
        more_videos=statistics.more_videos,
        dates=_plot_dates(statistics) if has_faces and images else None,
        faces=_show_faces(statistics) if has_faces and images else None,
        errors=_list_errors(statistics),
    )


def _count(statistics: TableStatistics) -> dict[str, Any]:
    labels = statistics.labels
    rows = [
        [model, statistics.images[model], statistics.emotions[model].total(), statistics.failed[model]]
        + [statistics.emotions[model][label] for label in labels]
        for model in statistics.images
    ]
    by_model = {model: [counts[label] for label in labels] for model, counts in statistics.emotions.items()}
    return {
        "head": ("model", "images and videos", "faces", "errors", *labels),
        "rows": rows,
        "plot": bars(labels, by_model, "emotion", "faces") if labels else None,
    }


def _plot_scores(statistics: TableStatistics) -> str:
    bins = [f"{number / SCORE_BINS:.2f}" for number in range(SCORE_BINS)]
    shares = {label: statistics.scores[label] for label in statistics.labels}
    return bars(bins, shares, f"score, in steps of {1 / SCORE_BINS:g}", "faces")


def _plot_videos(statistics: TableStatistics) -> list[dict[str, str]]:
    videos = []
    for path, timeline in statistics.timelines.items():
        bins = range(max(timeline.bins) + 1)
        shares = {label: [timeline.bins[number][label] for number in bins] for label in statistics.labels}
        times = [str(timedelta(seconds=number * timeline.step)) for number in bins]
        videos.append({"path": printable(path), "plot": bars(times, shares, "time", "faces")})
    return videos


def _plot_dates(statistics: TableStatistics) -> dict[str, str] | None:
    """Plot faces over the dates of their images, as far as the images are on this machine."""
    dated: list[tuple[ImageDate, str]] = []
    path_of = operator.attrgetter("path")
    for path, rows in itertools.groupby(sorted(statistics.dated.items, key=path_of), key=path_of):
        if found := date_of(Path(path)):
            dated += [(found, row.emotion) for row in rows]
    if not dated:
        return None
    dates = [found.date for found, _ in dated]
    form, labels = _divide_time(min(dates), max(dates))
    counts = Counter((found.date.strftime(form), emotion) for found, emotion in dated)
    shares = {emotion: [counts[label, emotion] for label in labels] for emotion in statistics.labels}
    from_camera = sum(found.from_camera for found, _ in dated)
    text = (
        f"{len(dated)} of {statistics.dated.total} faces in images: {from_camera} by the date that the camera wrote"
        f" (EXIF), {len(dated) - from_camera} by the date of the file."
    )
    return {"text": text, "plot": bars(labels, shares, "date", "faces")}


def _divide_time(first: datetime, last: datetime) -> tuple[str, list[str]]:
    """Divide a time into some dozens of hours, days, months or years.

    Returns:
        The form of a label for `strftime`, and the labels of all of them.
    """
    days = (last - first).days
    form = next(form for max_days, form in _DATE_FORMS if days <= max_days)
    step = timedelta(hours=1) if days <= 2 else timedelta(days=1)
    moments = [first + step * number for number in range((last - first) // step + 1)]
    return form, list(dict.fromkeys(moment.strftime(form) for moment in [*moments, last]))


def _show_faces(statistics: TableStatistics) -> dict[str, Any]:
    groups, missing = [], 0
    for label in statistics.labels:
        faces = []
        for row in sorted(statistics.faces[label].items, key=lambda row: -row.score):
            if jpeg := crop_row(row):
                faces.append({"url": data_url(jpeg, "jpeg"), "source": _name(row), "score": f"{row.score:.2f}"})
            else:
                missing += 1
        if faces:
            groups.append({"label": label, "faces": faces})
    subject = f"{missing} more face was" if missing == 1 else f"{missing} more faces were"
    text = f"{subject} chosen, but the images cannot be read here." if missing else ""
    return {"groups": groups, "missing": text}


def _name(row: TableRow) -> str:
    return printable(row.path) + (f", {row.time:g} s" if row.time is not None else "")


def _list_errors(statistics: TableStatistics) -> dict[str, Any] | None:
    total, listed = statistics.failed.total(), len(statistics.errors)
    if not total:
        return None
    return {
        "text": f"{total}, of which {listed} are listed" if total > listed else f"{total}",
        "rows": [(printable(row.path), printable(row.error)) for row in statistics.errors],
    }
