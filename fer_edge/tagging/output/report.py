"""Make an HTML page about tables of faces."""

from __future__ import annotations

import itertools
import operator
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_edge.classification.colours import emotion_colour
from fer_edge.errors import printable
from fer_edge.reports.html import data_url, render
from fer_edge.reports.svg_plot import bars
from fer_edge.tagging.input.dates import date_of
from fer_edge.tagging.output.face_crops import crop_rows
from fer_edge.tagging.output.statistics import SCORE_BINS, TableStatistics
from fer_edge.tagging.output.table_reader import read_table
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.tagging.output.table_reader import TableRow

# For at most so many days between the first and the last image, bars are labelled in this form.
_DATE_FORMS = ((2, "%m-%d %H:00"), (90, "%Y-%m-%d"), (1500, "%Y-%m"), (10**9, "%Y"))


def make_report(tables: Sequence[Path], *, images: bool = True) -> str:
    """Return a page about tables of faces.

    Args:
        tables: tables that `fer-edge tag` wrote.
        images: whether to open the images, to show faces and to find out dates.

    Raises:
        InputError: a file is not such a table.
        MissingExtraError: a table is Parquet, and pyarrow is not installed.
    """
    statistics = TableStatistics()
    for table in tables:
        with closing(read_table(table)) as rows:
            statistics.add_table(rows)
    has_faces = bool(statistics.labels)
    return render(
        "tags.html",
        title="Faces and their expressions",
        headline=_headline(statistics),
        tables=", ".join(printable(str(table)) for table in tables),
        counts=_count(statistics),
        scores=_plot_scores(statistics) if has_faces else None,
        videos=_plot_videos(statistics),
        more_videos=statistics.more_videos,
        dates=_plot_dates(statistics) if has_faces and images else None,
        faces=_show_faces(statistics) if has_faces and images else None,
        errors=_list_errors(statistics),
    )


def _headline(statistics: TableStatistics) -> str:
    """Say how many faces there are, and which emotions they show most often."""
    counts: Counter[str] = Counter()
    for emotions in statistics.emotions.values():
        counts.update(emotions)
    if not counts.total():
        return "No faces."
    shares = ", ".join(f"{label} {count / counts.total():.0%}" for label, count in counts.most_common(3))
    where = counted(statistics.images.total(), "image or video", "images and videos")
    return f"{counted(counts.total(), 'face')} in {where}. Most often: {shares}."


def _count(statistics: TableStatistics) -> dict[str, Any]:
    models = [*statistics.images]
    faces = [statistics.emotions[model] for model in models]
    emotions = [
        {"label": label, "colour": emotion_colour(label).css, "cells": [_count_cell(counts, label) for counts in faces]}
        for label in statistics.labels
    ]
    totals = [
        ("images and videos", [statistics.images[model] for model in models]),
        ("with an error", [statistics.failed[model] for model in models]),
        ("faces", [counts.total() for counts in faces]),
    ]
    return {"models": models, "totals": totals, "emotions": emotions}


def _count_cell(counts: Counter[str], label: str) -> dict[str, int]:
    """Describe the faces of an emotion; the bar of the most frequent one is as wide as the cell."""
    return {
        "count": counts[label],
        "percent": round(100 * counts[label] / max(counts.total(), 1)),
        "width": round(100 * counts[label] / max(counts.values(), default=1)),
    }


def _colours(labels: Sequence[str]) -> dict[str, str]:
    return {label: emotion_colour(label).css for label in labels}


def _plot_scores(statistics: TableStatistics) -> str:
    bins = [f"{number / SCORE_BINS:.2f}" for number in range(SCORE_BINS)]
    shares = {label: statistics.scores[label] for label in statistics.labels}
    return bars(bins, shares, f"score, in steps of {1 / SCORE_BINS:g}", "faces", _colours(statistics.labels))


def _plot_videos(statistics: TableStatistics) -> list[dict[str, str]]:
    videos = []
    for path, timeline in statistics.timelines.items():
        people = [timeline.people(number) for number in range(max(timeline.bins) + 1)]
        by_emotion = {label: [counts[label] for counts in people] for label in statistics.labels}
        times = [str(timedelta(seconds=number * timeline.step)) for number in range(len(people))]
        videos.append(
            {
                "path": printable(path),
                "plot": bars(times, by_emotion, "time in the video", "people", _colours(statistics.labels)),
                "shares": ", ".join(f"{label} {share:.0%}" for label, share in timeline.shares()),
                "step": counted(timeline.step, "second"),
            }
        )
    return videos


def _plot_dates(statistics: TableStatistics) -> dict[str, str] | None:
    """Plot faces over the dates that cameras wrote, as far as the images are on this machine."""
    dated: list[tuple[datetime, str]] = []
    undated = 0
    path_of = operator.attrgetter("path")
    for path, rows in itertools.groupby(sorted(statistics.dated.items, key=path_of), key=path_of):
        if found := date_of(Path(path)):
            emotions = [row.emotion for row in rows]
            if found.from_camera:
                dated += [(found.date, emotion) for emotion in emotions]
            else:
                undated += len(emotions)
    if not dated and not undated:
        return None
    text = f"Of {counted(statistics.dated.total, 'face')}, {len(dated)} have a date that the camera wrote (EXIF)."
    if undated:
        text += f" {undated} have only the date of the file, which may be a copy's. The chart leaves these out."
    if not dated:
        return {"text": text, "plot": ""}
    dates = [date for date, _ in dated]
    form, labels = _divide_time(min(dates), max(dates))
    counts = Counter((date.strftime(form), emotion) for date, emotion in dated)
    shares = {emotion: [counts[label, emotion] for label in labels] for emotion in statistics.labels}
    return {"text": text, "plot": bars(labels, shares, "date", "faces", _colours(statistics.labels))}


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
    crops = [*crop_rows([row for sample in statistics.faces.values() for row in sample.items])]
    groups = []
    for label in statistics.labels:
        shown = [crop for crop in crops if crop.jpeg and crop.row.emotion == label]
        if shown:
            faces = [
                {"url": data_url(jpeg, "jpeg"), "source": _name(row), "score": f"{row.score:.2f}"}
                for row, jpeg, _ in sorted(shown, key=lambda crop: -crop.row.score)
            ]
            groups.append({"label": label, "faces": faces})
    text = ""
    if missing := Counter(crop.problem for crop in crops if crop.problem):
        reasons = "; ".join(f"{problem} ({count})" for problem, count in missing.most_common())
        text = f"{counted(missing.total(), 'more face')} cannot be shown, because of the image: {reasons}."
    return {"groups": groups, "missing": text}


def _name(row: TableRow) -> str:
    return printable(row.path) + (f", {row.time:g} s" if row.time is not None else "")


def _list_errors(statistics: TableStatistics) -> dict[str, Any] | None:
    total, listed = statistics.failed.total(), len(statistics.errors)
    if not total:
        return None
    text = f"{counted(total, 'image or video', 'images and videos')} could not be read in full."
    return {
        "text": f"{text} {listed} are listed." if total > listed else text,
        "rows": [(printable(row.path), printable(row.error)) for row in statistics.errors],
    }
