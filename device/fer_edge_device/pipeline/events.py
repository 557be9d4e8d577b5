"""From tracks and smoothed scores to events and the state."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fer_edge.tracking.smoothing import Smoother, smoothing_weight
from fer_edge_device.messages import Event, State, VisibleFace

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import numpy.typing as npt

    from fer_edge.geometry import Box
    from fer_edge.quality import FaceQuality
    from fer_edge.tracking.tracker import Track
    from fer_edge_device.capture.base import Frame
    from fer_edge_device.config.settings import EventsSettings

# Smoothed share of classifications at which the emotion of a face becomes reliable, or no longer is: the distance
# between both keeps a face at a limit from changing all the time.
_RELIABLE: Final = 0.7
_UNRELIABLE: Final = 0.3

RelativeBox = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The classifier that gave some scores.

    Attributes:
        name: its name in events.
        labels: its labels, in the order of the scores.
    """

    name: str
    labels: tuple[str, ...]


@dataclass(slots=True, eq=False)
class TrackedFace:
    """A track and the scores of its face.

    Attributes:
        track: where the face is and since when.
        model: the classifier that gave the scores.
        smoother: smooths the scores.
        quality: how well the face could be seen at the latest classification.
        classified_at: time of the latest classification, in seconds.
        unchanged: whether that gave the emotion that the smoother had already.
        box: x, y, width and height in the frame in which the face was found last, over that frame's size; the next
            frame may have another size.
        reported: the emotion in the latest event; None before the first event.
        reliability: share of the classifications, smoothed like the scores, in which the emotion could be told, 0..1.
        reliable: whether the emotion can be told, which does not flicker.
        reported_reliable: the same in the latest event.
    """

    track: Track
    model: ModelInfo
    smoother: Smoother
    quality: FaceQuality
    classified_at: float
    reliability: float
    reliable: bool
    reported_reliable: bool = True
    unchanged: bool = False
    box: RelativeBox = (0.0, 0.0, 0.0, 0.0)
    reported: str | None = None

    def scores(self) -> dict[str, float]:
        """Return the smoothed score of each label, 0..1."""
        return {
            label: round(float(score), 4) for label, score in zip(self.model.labels, self.smoother.scores, strict=True)
        }


class EventMaker:
    """Smooths the scores of each track and makes events of what changes.

    A face is reported when the detector has found it ``min_hits`` times, which keeps out false positives.

    Attributes:
        faces: the classified faces by the number of their track.
    """

    def __init__(self, session: str, settings: EventsSettings) -> None:
        """Start without faces.

        Args:
            session: first part of every track's id.
            settings: when to report.
        """
        self.faces: dict[int, TrackedFace] = {}
        self._session, self._settings = session, settings
        self._time = self._epoch = 0.0
        self._frame_shape = (1, 1)
        self._last_state: tuple[float, Counter[str | None]] | None = None

    @property
    def settings(self) -> EventsSettings:
        """When to report; `reconfigure` sets it."""
        return self._settings

    def reconfigure(self, settings: EventsSettings) -> None:
        """Use other settings from the next frame on."""
        self._settings = settings
        for face in self.faces.values():
            face.smoother.settings = settings

    def next_frame(self, frame: Frame) -> None:
        """Go on to the next frame."""
        self.skip_to(frame.time, frame.epoch)
        self._frame_shape = frame.gray.shape[0], frame.gray.shape[1]

    def skip_to(self, time: float, epoch: float) -> None:
        """Go on to a time without a frame; see `Frame`."""
        self._time, self._epoch = time, epoch

    def reported_tracks(self) -> list[Track]:
        """Return the tracks for which there has been an event."""
        return [face.track for face in self.faces.values() if face.reported is not None]

    def update_scores(
        self, track: Track, scores: npt.NDArray[np.float32], quality: FaceQuality, model: ModelInfo
    ) -> None:
        """Smooth new scores of a face.

        Args:
            track: the face's track.
            scores: of shape (labels,).
            quality: how well the face can be seen.
            model: the classifier that gave them.
        """
        suffices = quality.suffices()
        face = self.faces.get(track.number)
        if face is None:
            smoother = Smoother(scores, self._time, self._settings)
            self.faces[track.number] = TrackedFace(
                track, model, smoother, quality, self._time, float(suffices), suffices
            )
            return
        weight = smoothing_weight(self._time - face.classified_at, self._settings.smoothing_s)
        face.reliability += weight * (suffices - face.reliability)
        if face.reliability >= _RELIABLE or face.reliability <= _UNRELIABLE:
            face.reliable = face.reliability >= _RELIABLE
        face.quality = quality
        if face.model.labels == model.labels:
            face.smoother.update(scores, self._time)
        else:
            label = model.labels.index(face.reported) if face.reported in model.labels else None
            face.smoother = Smoother(scores, self._time, self._settings, label)
        face.unchanged = int(scores.argmax()) == face.smoother.label
        face.model, face.classified_at = model, self._time

    def make_events(self, tracks: Iterable[Track]) -> list[Event]:
        """Make the events of the faces that were found in this frame: ``new`` or ``update``."""
        events = []
        for track in tracks:
            face = self.faces[track.number]
            face.box = _relative(track.box, *self._frame_shape)
            if event := self._make_event(face):
                events.append(event)
        return events

    def visible_faces(self, tracks: Iterable[Track]) -> list[VisibleFace]:
        """Return the faces of tracks, also of those that are not reported yet."""
        return [
            VisibleFace(
                id=self.track_id(track),
                box=_relative(track.box, *self._frame_shape),
                emotion=face.reported,
                reliable=face.reported_reliable,
                scores=face.scores(),
                duration_s=round(track.last_seen - track.first_seen, 1),
                roll=None if track.face.landmarks is None else round(math.degrees(track.face.roll), 1),
            )
            for track in tracks
            if (face := self.faces.get(track.number))
        ]

    def end_tracks(self, tracks: Iterable[Track]) -> list[Event]:
        """Forget the faces of tracks that have ended, and make an ``end`` of each that was reported."""
        # A track has no face if its first frame was interrupted.
        ended = [face for track in tracks if (face := self.faces.pop(track.number, None))]
        return [self._event("end", face, face.reported) for face in ended if face.reported is not None]

    def make_state(self, *, heartbeat: bool = True) -> State | None:
        """Return the state if it has changed or its heartbeat is due.

        Args:
            heartbeat: whether there is one.
        """
        counts = self._counts()
        if self._last_state:
            then, last_counts = self._last_state
            then = then or self._time  # published before the first frame
            self._last_state = (then, last_counts)
            due = heartbeat and self._time - then >= self._settings.heartbeat_interval_s
            if counts == last_counts and not due:
                return None
        return self.current_state(round(self._time + self._epoch, 3))

    def current_state(self, time: float) -> State:
        """Return the state, whether or not it has changed, and count its heartbeat from now on.

        Args:
            time: the present time, on the clock of the events.
        """
        shown = self._counts()
        self._last_state = (self._time, shown)
        unclear = shown[None]
        counts = {label: count for label, count in shown.items() if label is not None}
        rows = [face.scores() for face in self.faces.values() if face.reported is not None and face.reported_reliable]
        if not rows:
            return State(time=time, faces=unclear, unclear=unclear, emotion=None, scores={}, counts={})
        # Just after a change of the model, faces may have scores for different labels.
        labels = dict.fromkeys(label for row in rows for label in row)
        scores = {label: round(sum(row.get(label, 0.0) for row in rows) / len(rows), 4) for label in labels}
        emotion = max(counts, key=lambda label: (counts[label], scores[label]))
        faces = len(rows) + unclear
        return State(time=time, faces=faces, unclear=unclear, emotion=emotion, scores=scores, counts=counts)

    def _counts(self) -> Counter[str | None]:
        """Return how many reported faces have each emotion, and how many an unreliable one (None)."""
        return Counter(
            face.reported if face.reported_reliable else None
            for face in self.faces.values()
            if face.reported is not None
        )

    def _make_event(self, face: TrackedFace) -> Event | None:
        labels, smoother = face.model.labels, face.smoother
        if face.reported is None:
            if face.track.hits < self._settings.min_hits:
                return None
            # Nothing was reported before, so there is no flicker to avoid: take the highest score.
            smoother.label = int(smoother.scores.argmax())
            face.reported = labels[smoother.label]
            face.reliable = face.reported_reliable = face.reliability >= 0.5
            return self._event("new", face, face.reported)
        previous, face.reported = face.reported, labels[smoother.label]
        was_reliable, face.reported_reliable = face.reported_reliable, face.reliable
        if face.reported == previous and face.reliable == was_reliable:
            return None
        return self._event("update", face, face.reported, previous)

    def _event(
        self, event_type: Literal["new", "update", "end"], face: TrackedFace, emotion: str, previous: str | None = None
    ) -> Event:
        track, scores = face.track, face.scores()
        return Event(
            event_type=event_type,
            id=self.track_id(track),
            time=round(track.last_seen + self._epoch, 3),
            emotion=emotion,
            score=scores[emotion],
            scores=scores,
            reliable=face.reported_reliable,
            quality=face.quality,
            previous=previous,
            box=face.box,
            duration_s=round(track.last_seen - track.first_seen, 3),
            model=face.model.name,
        )

    def track_id(self, track: Track) -> str:
        """Return the id of a track in events."""
        return f"{self._session}-{track.number}"


def _relative(box: Box, rows: int, columns: int) -> RelativeBox:
    """Return the part of a box that lies within the image, as x, y, width and height over the image's size."""
    left, top = max(box.x, 0) / columns, max(box.y, 0) / rows
    right, bottom = min(box.x + box.width, columns) / columns, min(box.y + box.height, rows) / rows
    return round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4)
