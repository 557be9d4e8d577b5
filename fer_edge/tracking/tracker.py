"""Following faces from frame to frame, so that one person is one track."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from fer_edge.geometry import intersection_over_union

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.geometry import Box, Face

# Lowest intersection over union of two detections of a stationary face.
_STATIONARY_IOU: Final = 0.8  # a movement of a tenth of the side
_COARSE_STATIONARY_IOU: Final = 0.5  # for inexact boxes: a movement of a quarter of the side

# The velocity of a track.
_VELOCITY_S: Final = 0.1  # time constant of its smoothing, in seconds
_MAX_STEP_S: Final = 0.5  # longest time between two detections from which it is estimated: people turn and stop
_MAX_PREDICTION_S: Final = 1.0  # longest time for which it is taken to stay the same

# Which detection may be which track. Distances are relative to the side of the face.
_MAX_SIZE_RATIO: Final = 1.6  # of faces whose boxes do not overlap
_MAX_ERROR: Final = 0.7  # of a predicted position
_MAX_ERROR_OF_WAY: Final = 0.5  # of the predicted way, in addition
_MAX_TOTAL_ERROR: Final = 1.5
_MAX_SPEED: Final = 30.0  # sides per second; a runner at 5 m/s, whose face is 0.16 m wide
_MAX_JUMP: Final = 3.0  # between the first two detections, before there is a velocity
_MAX_JUMP_S: Final = 0.25  # time between them, in seconds: later it is more likely to be somebody else


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
        velocity: smoothed velocity to the right and down, in pixels per second.
    """

    number: int
    face: Face
    first_seen: float
    last_seen: float
    hits: int = 1
    missed: bool = False
    stationary: bool = False
    velocity: tuple[float, float] = (0.0, 0.0)

    @property
    def box(self) -> Box:
        """Position of the latest detection, in pixels."""
        return self.face.box

    def predict(self, time: float) -> Box:
        """Return where the face is at a time in seconds if it goes on with the same velocity."""
        elapsed = min(max(time - self.last_seen, 0.0), _MAX_PREDICTION_S)
        box, (right, down) = self.face.box, self.velocity
        return box._replace(x=box.x + right * elapsed, y=box.y + down * elapsed)


class _Place(NamedTuple):
    """Where the face of a track may be.

    Attributes:
        box: where it is expected, in pixels.
        max_distance: how far from there it may be, in sides.
    """

    box: Box
    max_distance: float


class Tracker:
    """Matches the faces of a frame with the tracks, best pairs first.

    A face belongs to a track, in this order,

    1. if it is near the position that the track's velocity predicts;
    2. if it is near the track's latest detection, because somebody has stopped;
    3. if the track has one detection, from a moment ago, and a runner can cover the distance in this time.

    Near are boxes that overlap (as in Bochinski et al. 2017), or whose sizes are similar and whose distance is small.

    For each frame, call `next_frame`, then `update` once for each set of detections, then `end_lost`.

    Attributes:
        max_age_s: seconds without a detection after which a track ends.
        tracks: the tracks that have not ended, oldest first.
    """

    def __init__(self, max_age_s: float, min_iou: float = 0.2) -> None:
        """Create a tracker without tracks.

        Args:
            max_age_s: seconds without a detection after which a track ends.
            min_iou: lowest intersection over union, 0..1, of boxes that overlap.
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
            start_tracks: whether a face that matches no track starts a new one. If not, the faces are not all those of
                the frame, and a face is not matched with a distant track (rule 3).
            coarse: whether the boxes are inexact. Then a face that may be stationary keeps its box.

        Returns:
            The tracks that are matched now and were not matched in this frame before, in the order of the faces.
        """
        matched = self._match(faces, distant=start_tracks)
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

    def _match(self, faces: Sequence[Face], *, distant: bool) -> dict[int, Track]:
        """Return the matching track for each index of a face that has one."""
        matched: dict[int, Track] = {}
        rules = [self._predicted_place, self._last_place, *([self._place_of_jump] if distant else [])]
        for rule in rules:
            used = set(matched.values())
            places = [(track, place) for track in self.tracks if track not in used and (place := rule(track))]
            pairs = sorted(
                (distance, number, index)
                for number, (_, place) in enumerate(places)
                for index, face in enumerate(faces)
                if index not in matched and (distance := self._distance_from(place, face.box)) is not None
            )
            for _, number, index in pairs:
                track = places[number][0]
                if index not in matched and track not in used:
                    matched[index] = track
                    used.add(track)
        return matched

    def _predicted_place(self, track: Track) -> _Place:
        predicted = track.predict(self._time)
        way = _distance(predicted, track.box)
        return _Place(predicted, min(_MAX_ERROR + _MAX_ERROR_OF_WAY * way, _MAX_TOTAL_ERROR))

    def _last_place(self, track: Track) -> _Place:
        return _Place(track.box, _MAX_ERROR)

    def _place_of_jump(self, track: Track) -> _Place | None:
        elapsed = self._time - track.last_seen
        if track.hits > 1 or not 0 < elapsed <= _MAX_JUMP_S:
            return None
        return _Place(track.box, min(_MAX_SPEED * elapsed, _MAX_JUMP))

    def _distance_from(self, place: _Place, box: Box) -> float | None:
        """Return the distance of a face from a place, in sides; None if it is too far or too different in size."""
        at = place.box
        reach = (0.5 + max(place.max_distance, 1.0)) * max(at.width, at.height, box.width, box.height)
        if abs(at.x - box.x) > reach or abs(at.y - box.y) > reach:
            return None  # soon, because a crowd has thousands of pairs
        distance, size_ratio = _distance(at, box), _size_ratio(at, box)
        if (distance > place.max_distance or size_ratio > _MAX_SIZE_RATIO) and (
            intersection_over_union(at, box) < self._min_iou
        ):
            return None
        # A different size counts as a distance, too: of two people who cross, one is nearer to the camera.
        return distance + math.log(size_ratio)

    def _add_hit(self, track: Track, face: Face, *, coarse: bool) -> None:
        min_iou = _COARSE_STATIONARY_IOU if coarse else _STATIONARY_IOU
        track.stationary = intersection_over_union(track.box, face.box) >= min_iou
        if not (coarse and track.stationary):
            track.velocity = self._new_velocity(track, face)
            track.face = face
        track.last_seen, track.missed = self._time, False
        track.hits += 1

    def _new_velocity(self, track: Track, face: Face) -> tuple[float, float]:
        """Return the velocity of a track after another detection."""
        elapsed = self._time - track.last_seen
        changed = _distance(track.predict(self._time), face.box) > _MAX_ERROR
        if not 0 < elapsed <= _MAX_STEP_S:
            return (0.0, 0.0) if changed else track.velocity
        (x, y), (last_x, last_y) = _centre(face.box), _centre(track.box)
        velocity = (x - last_x) / elapsed, (y - last_y) / elapsed
        if track.hits == 1 or changed:
            return velocity
        weight = 1 - math.exp(-elapsed / _VELOCITY_S)
        return (
            track.velocity[0] + weight * (velocity[0] - track.velocity[0]),
            track.velocity[1] + weight * (velocity[1] - track.velocity[1]),
        )


def _centre(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def _side(box: Box) -> float:
    return max(math.sqrt(box.width * box.height), 1e-9)


def _distance(a: Box, b: Box) -> float:
    """Return the distance of the centres of two boxes, relative to the mean of their sides."""
    return 2 * math.dist(_centre(a), _centre(b)) / (_side(a) + _side(b))


def _size_ratio(a: Box, b: Box) -> float:
    """Return the side of the larger box relative to that of the smaller."""
    return max(_side(a), _side(b)) / min(_side(a), _side(b))
