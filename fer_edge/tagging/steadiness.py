"""How steady the emotions of a video's faces are, and how well they agree with a reviewed timeline."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.classification.labels import canonical_label
from fer_edge.errors import DataError
from fer_edge.quality import UNCLEAR
from fer_edge.utils.bounded_file import csv_rows, open_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fer_edge.tagging.output.table_reader import TableRow

_NEEDED: Final = ("start", "end", "emotion")
_PERSON: Final = "person"
_MINUTE_S: Final = 60.0


class ReviewedSpan(msgspec.Struct, frozen=True):
    """A part of a video that somebody has labelled.

    Attributes:
        start: its first moment, in seconds.
        end: the moment at which it is over, in seconds.
        emotion: the label.
        person: the track of the face that it is for; None for every face.
    """

    start: float
    end: float
    emotion: str
    person: int | None


class Steadiness(msgspec.Struct, frozen=True, kw_only=True):
    """What a table says of the faces of its videos.

    Attributes:
        model: name of the model.
        tracks: number of faces that were followed.
        minutes: time for which they were, in all.
        flips: changes of a face's label.
        flips_a_minute: flips, divided by that time; None if it is zero.
        unclear: rows that were left out because their face was too small, turned or blurred.
        reviewed: rows that the timeline has a label for; None without a timeline.
        agreement: share of them with the same label; None if there are none.
        kappa: agreement beyond chance (Cohen 1960), 1 at most; None if there are none, or only one label.
    """

    model: str
    tracks: int
    minutes: float
    flips: int
    flips_a_minute: float | None
    unclear: int
    reviewed: int | None = None
    agreement: float | None = None
    kappa: float | None = None


def read_timeline(path: Path) -> list[ReviewedSpan]:
    """Read a reviewed timeline: a CSV with the columns start, end, emotion and, optionally, person.

    Raises:
        DataError: it cannot be read, a column is missing, or a line is wrong.
    """
    spans: list[ReviewedSpan] = []
    with open_table(path) as lines:
        rows = csv_rows(lines)
        head = [name.strip().lower() for name in next(rows, [])]
        if missing := [name for name in _NEEDED if name not in head]:
            raise DataError(f"{path}: no column {' or '.join(missing)}; a timeline has start,end,emotion")
        for number, cells in enumerate(rows, 2):
            if cells:
                spans.append(_read_span(f"{path}, line {number}", dict(zip(head, cells, strict=False))))
    if not spans:
        raise DataError(f"{path}: no line with start, end and emotion")
    ordered = sorted(spans, key=lambda span: (span.person is not None, span.person or 0, span.start))
    for one, other in itertools.pairwise(ordered):
        if one.person == other.person and other.start < one.end:
            raise DataError(
                f"{path}: two spans overlap at {other.start:g} s; end the first one where the second starts"
            )
    return spans


def measure_steadiness(rows: Iterable[TableRow], timeline: Sequence[ReviewedSpan] | None) -> Steadiness:
    """Measure the faces of the videos in a table.

    Args:
        rows: the rows of a table; images are left out.
        timeline: reviewed labels; None for none.

    Raises:
        DataError: there is no face of a video, or the faces are of several models or, with a timeline, videos.
    """
    tracks: dict[tuple[str, int], list[tuple[float, str]]] = defaultdict(list)
    models: set[str] = set()
    unclear = 0
    for row in rows:
        if row.time is None or row.track is None or not row.emotion:
            continue
        models.add(row.model)
        if row.emotion == UNCLEAR:
            unclear += 1
            continue
        tracks[row.path, row.track].append((row.time, canonical_label(row.emotion)))
    if not tracks:
        raise DataError(
            "no face of a video with a clear emotion; give a video, or a table that `fer-edge tag` made of one"
        )
    if len(models) > 1:
        raise DataError(f"faces of several models: {', '.join(sorted(models))}; give a table of one")
    if timeline is not None and len({path for path, _ in tracks}) > 1:
        raise DataError("faces of several videos, but a timeline is for one; give a table of that one")
    labels = {key: [label for _, label in sorted(seen, key=lambda one: one[0])] for key, seen in tracks.items()}
    flips = sum(one != other for seen in labels.values() for one, other in itertools.pairwise(seen))
    seconds = sum(max(time for time, _ in seen) - min(time for time, _ in seen) for seen in tracks.values())
    pairs = [
        (reviewed, label)
        for (_, track), seen in tracks.items()
        for time, label in seen
        if timeline is not None and (reviewed := _label_at(timeline, time, track))
    ]
    return Steadiness(
        model=models.pop(),
        tracks=len(tracks),
        minutes=seconds / _MINUTE_S,
        flips=flips,
        flips_a_minute=flips * _MINUTE_S / seconds if seconds else None,
        unclear=unclear,
        reviewed=None if timeline is None else len(pairs),
        agreement=sum(one == other for one, other in pairs) / len(pairs) if pairs else None,
        kappa=_kappa(pairs),
    )


def _label_at(timeline: Sequence[ReviewedSpan], time: float, track: int) -> str:
    """Return the reviewed label of a track at a time, that of its own spans first; empty if there is none."""
    fitting = [span for span in timeline if span.start <= time < span.end and span.person in {None, track}]
    return min(fitting, key=lambda span: span.person is None).emotion if fitting else ""


def _kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    if not pairs:
        return None
    count = len(pairs)
    by_reviewer, by_model = (Counter(side) for side in zip(*pairs, strict=True))
    chance = sum(by_reviewer[label] * by_model[label] for label in by_reviewer) / count**2
    observed = sum(one == other for one, other in pairs) / count
    return (observed - chance) / (1 - chance) if chance < 1 else None


def _read_span(place: str, cells: dict[str, str]) -> ReviewedSpan:
    try:
        start, end = float(cells["start"]), float(cells["end"])
        emotion, person = canonical_label(cells["emotion"].strip()), cells.get(_PERSON, "").strip()
        track = int(person) if person else None
    except (KeyError, ValueError) as error:
        raise DataError(f"{place}: not start and end in seconds, an emotion and the number of a track") from error
    if not (0 <= start < end < math.inf) or not emotion:
        raise DataError(f"{place}: start must be before end, and the emotion must have a name")
    return ReviewedSpan(start, end, emotion, track)
