"""Make an HTML page about a history."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from fer_edge.classification.colours import emotion_colour
from fer_edge.reports.html import render
from fer_edge.reports.svg_plot import bars
from fer_edge_device.history.export import mean_faces
from fer_edge_device.history.periods import combine, labels_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge_device.history.periods import Length
    from fer_edge_device.history.rows import Period

_FORMS: Final[dict[Length, str]] = {"minute": "%m-%d %H:%M", "hour": "%m-%d %H:00", "day": "%Y-%m-%d"}
_MAX_BARS: Final = 200
_HOUR_S: Final = 3600


def make_history_page(minutes: Sequence[Period], name: str) -> str:
    """Return a page about minutes of a history: shares of emotions and numbers of faces over time, and days.

    Args:
        minutes: the minutes, in order.
        name: name of the node.
    """
    lengths: tuple[Length, ...] = ("minute", "hour", "day")
    length, periods = next(
        (length, periods)
        for length in lengths
        if len(periods := [*combine(minutes, length)]) <= _MAX_BARS or length == lengths[-1]
    )
    labels = labels_of(minutes)
    starts = [datetime.fromtimestamp(period.start).astimezone().strftime(_FORMS[length]) for period in periods]
    plots = []
    if labels:
        by_period = [period.shares() for period in periods]
        shares = {label: [100 * each.get(label, 0.0) for each in by_period] for label in labels}
        colours = {label: emotion_colour(label).css for label in labels}
        plots.append(
            {"title": "Emotions", "plot": bars(starts, shares, "time", "share of the time of all faces, %", colours)}
        )
        faces = {"mean number of faces": [mean_faces(period) or 0.0 for period in periods]}
        plots.append({"title": "Faces in view", "plot": bars(starts, faces, "time", "faces")})
    return render(
        "history.html",
        title=f"History of {name}",
        plots=plots,
        days={"head": (*_HEAD, *labels), "rows": [_day_row(day, labels) for day in combine(minutes, "day")]},
    )


_HEAD: Final = ("day", "watched, h", "mean faces", "largest number", "faces that appeared")


def _day_row(day: Period, labels: Sequence[str]) -> list[Any]:
    mean = mean_faces(day)
    shares = day.shares()
    return [
        datetime.fromtimestamp(day.start).astimezone().strftime("%Y-%m-%d"),
        f"{day.observed_s / _HOUR_S:.1f}",
        "" if mean is None else f"{mean:.2f}",
        day.max_faces,
        day.new_faces,
        *(f"{shares[label]:.0%}" if label in shares else "" for label in labels),
    ]
