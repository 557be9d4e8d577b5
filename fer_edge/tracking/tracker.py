"""Following faces from frame to frame, so that one person is one track."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fer_edge.geometry import intersection_over_union

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.geometry import Box, Face

# Lowest intersection over union of two detections of a stationary face.
_STATIONARY_IOU: Final = 0.8  # a movement of a tenth of the side
_COARSE_STATIONARY_IOU: Final = 0.5  # for inexact boxes: a movement of a quarter of the side


@dataclass(slots=True, eq=False)
class Track:
    """A face that is followed from frame to frame.

    Attributes:
        number: number of the track, from 1 within a session; never the identity of a person.
        face: the latest detection.
        first_seen: time of the first detection, in seconds.
        last_seen: time of the latest detection, in seconds.
        hits: number of frames in which the face was detected.
        missed: whether the face has not been detected in the current frame.
        stationary: whether the face hardly moved between its last two detections.
    """

    number: int
    face: Face
    first_seen: float
    last_seen: float
    hits: int = 1
    missed: bool = False
    stationary: bool = False

    @property
    def box(self) -> Box:
        """Position of the latest detection, in pixels."""
        return self.face.box


class Tracker:
    """Matches the faces of a frame with the tracks by overlap, best pairs first (as in Bochinski et al. 2017).

    For each frame, call `next_frame`, then `update` once for each set of detections, then `end_lost`.

    Attributes:
        max_age_s: seconds without a detection after which a track ends.
        tracks: the tracks that have not ended, oldest first.
    """

    def __init__(self, max_age_s: float, min_iou: float = 0.2) -> None:
        """Create a tracker without tracks.

        Args:
            max_age_s: seconds without a detection after which a track ends.
            min_iou: lowest intersection over union, 0..1, of a face with the latest detection of its track.
        """
        self.max_age_s, self._min_iou = max_age_s, min_iou
        self.tracks: list[Track] = []
        self._count = 0
        self._time = 0.0

    def next_frame(self, time: float) -> None:
        """Go to the next frame, in which no face has been detected yet.

        Args:
            time: time of the frame, in seconds; never lower than that of the frame before.
        """
        self._time = time
        for track in self.tracks:
            track.missed = True

    def update(self, faces: Sequence[Face], *, start_tracks: bool = True, coarse: bool = False) -> list[Track]:
        """Match detections of the current frame with the tracks.

        A track that was already matched in this frame does not change.

        Args:
            faces: the detections.
            start_tracks: whether a face that matches no track starts a new one.
            coarse: whether the boxes are inexact.  Then a face that may be stationary keeps its box.

        Returns:
            The tracks that are matched now and were not matched in this frame before, in the order of the faces.
        """
        matched = self._match(faces)
        updated = []
        for index, face in enumerate(faces):
            track = matched.get(index)
            if track is None:
                if not start_tracks:
                    continue
                self._count += 1
                track = Track(self._count, face, self._time, self._time)
                self.tracks.append(track)
            elif track.missed:
                self._add_hit(track, face, coarse=coarse)
            else:
                continue
            updated.append(track)
        return updated

    def end_lost(self, time: float) -> list[Track]:
        """End the tracks without a detection for `max_age_s` at a time in seconds, and return them."""
        ended = [track for track in self.tracks if time - track.last_seen >= self.max_age_s]
        if ended:
            self.tracks = [track for track in self.tracks if track not in ended]
        return ended

    def end_all(self) -> list[Track]:
        """End all tracks, for example at the end of a video, and return them."""
        ended, self.tracks = self.tracks, []
        return ended

    def _match(self, faces: Sequence[Face]) -> dict[int, Track]:
        """Return the matching track for each index of a face that has one."""
        pairs = sorted(
            (
                (iou, track_index, face_index)
                for track_index, track in enumerate(self.tracks)
                for face_index, face in enumerate(faces)
                if (iou := intersection_over_union(track.box, face.box)) >= self._min_iou
            ),
            reverse=True,
        )
        matched: dict[int, Track] = {}
        used: set[int] = set()
        for _, track_index, face_index in pairs:
            if face_index not in matched and track_index not in used:
                matched[face_index] = self.tracks[track_index]
                used.add(track_index)
        return matched

    def _add_hit(self, track: Track, face: Face, *, coarse: bool) -> None:
        min_iou = _COARSE_STATIONARY_IOU if coarse else _STATIONARY_IOU
        track.stationary = intersection_over_union(track.box, face.box) >= min_iou
        if not (coarse and track.stationary):
            track.face = face
        track.last_seen, track.missed = self._time, False
        track.hits += 1
