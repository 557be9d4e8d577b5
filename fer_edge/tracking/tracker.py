"""Keeping faces apart from frame to frame, so that one person is one track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.geometry import Box, Face

_STILL: Final = 0.8  # intersection over union of two sightings: a tenth of the side from one to the other
_ROUGHLY_STILL: Final = 0.5  # of which the second tells only roughly where: a quarter of the side


@dataclass(slots=True, eq=False)
class Track:
    """One face that is being followed.

    Attributes:
        number: counts from 1 within a session; never an identity.
        face: as it was seen last.
        first_seen: time of its first frame, in seconds.
        last_seen: time of its latest frame, in seconds.
        sightings: in how many frames the detector found it.
        missed: whether it is not seen in the latest frame.
        still: whether it was nearly where it had been at the sighting before.
    """

    number: int
    face: Face
    first_seen: float
    last_seen: float
    sightings: int = 1
    missed: bool = False
    still: bool = False

    @property
    def box(self) -> Box:
        """Where the face was seen last, in pixels."""
        return self.face.box


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
        self._time = 0.0

    def update(self, faces: Sequence[Face], time: float) -> list[Track]:
        """Take in what the detector found in the next frame.

        Args:
            faces: what was found.
            time: of the frame, in seconds; never less than before.

        Returns:
            The track of each face, in their order.
        """
        self.next_frame(time)
        return self.see(faces)

    def next_frame(self, time: float) -> None:
        """Go on to the frame of ``time``, in seconds, never less than before, in which nobody has been seen yet."""
        self._time = time
        for track in self.tracks:
            track.missed = True

    def see(self, faces: Sequence[Face], *, begin: bool = True, roughly: bool = False) -> list[Track]:
        """Take in faces of the frame; those that were seen in it before stay as they are.

        Args:
            faces: what was found.
            begin: a face that overlaps no track begins one.
            roughly: boxes tell no better than that; who may have kept still is where it was before.

        Returns:
            The tracks that are seen now and were not before, in the faces' order.
        """
        pairs = sorted(
            (
                (overlap, track_at, face_at)
                for track_at, track in enumerate(self.tracks)
                for face_at, face in enumerate(faces)
                if (overlap := intersection_over_union(track.box, face.box)) >= self._min_overlap
            ),
            reverse=True,
        )
        matched: dict[int, Track] = {}
        taken: set[int] = set()
        for _, track_at, face_at in pairs:
            if face_at in matched or track_at in taken:
                continue
            matched[face_at] = self.tracks[track_at]
            taken.add(track_at)
        seen = []
        for face_at, face in enumerate(faces):
            track = matched.get(face_at)
            if track is None and begin:
                self._count += 1
                track = Track(self._count, face, self._time, self._time)
                self.tracks.append(track)
            elif track is None or not track.missed:
                continue
            else:
                track.still = intersection_over_union(track.box, face.box) >= (_ROUGHLY_STILL if roughly else _STILL)
                if not (roughly and track.still):
                    track.face = face
                track.last_seen, track.missed = self._time, False
                track.sightings += 1
            seen.append(track)
        return seen

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
