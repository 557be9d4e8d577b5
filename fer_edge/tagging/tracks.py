"""Turn results into rows of the table, and number the faces of a video by tracking them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.geometry import Face
from fer_edge.tagging.output.columns import FaceRow
from fer_edge.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fer_edge.tagging.records import FaceRecord, SourceResult

_MAX_AGE_S: Final = 2.0  # for which a track survives without a detection


class SourceRows(NamedTuple):
    """The rows of one source.

    Attributes:
        is_first: whether this is an image, or the first part of a video.
        rows: the rows.
    """

    is_first: bool
    rows: list[FaceRow]


def make_rows(results: Iterable[tuple[str, bool, SourceResult]], every: float | None) -> Iterator[SourceRows]:
    """Make the rows of results.

    Args:
        results: for each source its path, whether it is part of a video, and its result, in order.
        every: seconds between the frames of a video; None for every frame.
    """
    previous = None
    tracker = Tracker(_MAX_AGE_S)
    for path, is_video, result in results:
        is_first = not is_video or path != previous
        if is_first:
            tracker = Tracker(max(_MAX_AGE_S, 2.5 * (every or 0)))
        previous = path
        tracks = _number_tracks(tracker, result.records) if is_video else itertools.repeat(None)
        rows = [
            FaceRow(path=path, record=record, track=track, sha256=result.sha256)
            for record, track in zip(result.records, tracks, strict=False)
        ]
        yield SourceRows(is_first, rows)


def _number_tracks(tracker: Tracker, records: Sequence[FaceRecord]) -> Iterator[int | None]:
    """Yield the number of each record's track; None for a record without a face."""
    for (time, _), group in itertools.groupby(records, key=lambda record: (record.time, record.frame)):
        frame = list(group)
        tracker.end_lost(time or 0.0)
        faces = [Face(record.face.box, record.detector_score or 0.0) for record in frame if record.face]
        tracker.next_frame(time or 0.0)
        tracks = iter(tracker.update(faces))
        yield from (next(tracks).number if record.face else None for record in frame)
