"""Keeping faces apart from frame to frame, so that one person is one track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.crop import Box


@dataclass(slots=True, eq=False)
class Track:
    """One face that is being followed.

    Attributes:
        number: counts from 1 within a session; never an identity.
        box: where the face was seen last, in pixels.
        first_seen: time of its first frame, in seconds.
        last_seen: time of its latest frame, in seconds.
        sightings: in how many frames the detector found it.
        missed: whether the detector, when it looked last, did not find it.
    """

    number: int
    box: Box
    first_seen: float
    last_seen: float
    sightings: int = 1
    missed: bool = False


class Tracker:
    """Matches the faces of a frame to those before by overlap, nearest pairs first (as in Bochinski et al. 2017).

    Attributes:
        lost_after: seconds without a sighting after which a track ends.
        tracks: those that have not ended, oldest first.
    """

    def __init__(self, lost_after: float, min_overlap: float = 0.2) -> None:
        """Start with no tracks.

        Args:
            lost_after: seconds without a sighting after which a track ends.
            min_overlap: least intersection over union of a face in two frames, 0..1.
        """
        self.lost_after, self._min_overlap = lost_after, min_overlap
        self.tracks: list[Track] = []
        self._count = 0

    def update(self, boxes: Sequence[Box], time: float) -> list[Track]:
        """Take in what the detector found in the next frame.

        Args:
            boxes: the faces found, in pixels.
            time: of the frame, in seconds; never less than before.

        Returns:
            The track of each box, in their order.
        """
        pairs = sorted(
            (
                (overlap, track_at, box_at)
                for track_at, track in enumerate(self.tracks)
                for box_at, box in enumerate(boxes)
                if (overlap := intersection_over_union(track.box, box)) >= self._min_overlap
            ),
            reverse=True,
        )
        for track in self.tracks:
            track.missed = True
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for _, track_at, box_at in pairs:
            if box_at in matched or track_at in taken:
                continue
            track = matched[box_at] = self.tracks[track_at]
            taken.add(track_at)
            track.box, track.last_seen, track.missed = boxes[box_at], time, False
            track.sightings += 1
        for box_at, box in enumerate(boxes):
            if box_at not in matched:
                self._count += 1
                matched[box_at] = Track(self._count, box, time, time)
                self.tracks.append(matched[box_at])
        return [matched[at] for at in range(len(boxes))]

    def end_lost(self, time: float) -> list[Track]:
        """End the tracks without a sighting for too long, and return them."""
        ended = [track for track in self.tracks if time - track.last_seen >= self.lost_after]
        if ended:
            self.tracks = [track for track in self.tracks if track not in ended]
        return ended

    def end_all(self) -> list[Track]:
        """End every track, as when the source ends, and return them."""
        ended, self.tracks = self.tracks, []
        return ended


def intersection_over_union(a: Box, b: Box) -> float:
    """Shared area of two boxes over the area that they cover together, 0..1."""
    wide = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    high = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    if wide <= 0 or high <= 0:
        return 0.0
    shared = wide * high
    return shared / (a.width * a.height + b.width * b.height - shared)
