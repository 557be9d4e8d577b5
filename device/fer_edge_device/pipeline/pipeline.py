"""One frame's path: faces, tracks, scores, smoothing, events."""

from __future__ import annotations

import itertools
import time as clock
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from fer_edge.classification.classifier import classify_faces
from fer_edge.detection.postprocess import NMS_IOU
from fer_edge.geometry import intersection_over_union
from fer_edge.tracking.smoothing import Smoother
from fer_edge.tracking.tracker import Track, Tracker
from fer_edge_device.messages import Event, State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import TrackingDetector
    from fer_edge.geometry import Box, Face
    from fer_edge_device.capture.base import Frame
    from fer_edge_device.config.settings import EventsSettings, FacesSettings

STAGES: Final = ("follow", "detect", "classify", "track")
_EARLY: Final = 0.01  # seconds: a camera's frames come a little early or late
_SETTLED: Final = 2  # times as long until the next look, while looks say what has been told already
_RESTS: Final = 0.2  # seconds for which a face that keeps still is taken to be where it was
_TIMINGS: Final = 1000  # of each stage are kept


@dataclass(frozen=True, slots=True)
class _Model:
    """Whose scores they are."""

    name: str
    labels: tuple[str, ...]


@dataclass(slots=True, eq=False)
class _Person:
    """A track that has scores.

    Attributes:
        track: where the face is and since when.
        model: whose scores they are.
        smoother: what has become of them.
        looked: time of the latest look.
        settled: whether that said what had been the emotion before.
        box: over the width and height of the frame it was seen in: the next may have another size.
        told: the emotion that was reported last; None until it was seen often enough to be reported.
    """

    track: Track
    model: _Model
    smoother: Smoother
    looked: float
    settled: bool = False
    box: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    told: str | None = None

    def scores(self) -> dict[str, float]:
        return {
            label: round(float(score), 4) for label, score in zip(self.model.labels, self.smoother.scores, strict=True)
        }


class Pipeline:
    """Turns frames into events; the same frames at the same times give the same events.

    In each frame the detector looks where faces were in the one before, less often for those that keep still, and every
    ``detect_interval_s`` everywhere: every other time only for large faces, which takes a quarter of the time, while
    nobody is missed.  When somebody is, it looks everywhere at once, after the next frame, then after twice as long,
    and so on, until the face ends.  What it found ``min_hits`` times is reported.
    """

    def __init__(
        self,
        detector: TrackingDetector,
        classifier: Classifier,
        *,
        session: str,
        model: str,
        faces: FacesSettings,
        events: EventsSettings,
        fps: float,
        idle_fps: float,
    ) -> None:
        """Put the parts together.

        Args:
            detector: what finds faces.
            classifier: what scores them.
            session: what the tracks' ids begin with.
            model: what events call the model.
            faces: how often faces are looked for and at.
            events: what is worth a message.
            fps: frames a second that are of use while there are faces in view.
            idle_fps: frames a second that are of use while there are none.
        """
        self._detector, self._classifier = detector, classifier
        self._session, self._model = session, _Model(model, classifier.card.labels)
        self._faces, self._events = faces, events
        self._fps, self._idle_fps = fps, idle_fps
        self._tracker = Tracker(events.max_age_s)
        self._people: dict[int, _Person] = {}
        self._time = self._epoch = 0.0
        self._resting: list[Track] = []
        self._followed = 0.0
        self._searched: float | None = None
        self._searched_all = 0.0
        self._told: tuple[float, Counter[str]] | None = None
        self._taken: dict[str, float] = {}
        self.milliseconds: dict[str, deque[float]] = {stage: deque(maxlen=_TIMINGS) for stage in STAGES}
        """What each stage took in the latest frames that it ran in, until somebody takes it away."""

    @property
    def rest(self) -> float:
        """Seconds after the latest frame before which another frame of a live source is of no use."""
        return 1 / (self._fps if self._tracker.tracks else self._idle_fps)

    @property
    def in_view(self) -> list[Track]:
        """The tracks whose face was in the latest frame, those included that are not reported yet."""
        return [track for track in self._tracker.tracks if track.last_seen == self._time or track in self._resting]

    def reconfigure(
        self,
        faces: FacesSettings,
        events: EventsSettings,
        *,
        fps: float,
        idle_fps: float,
        detector: TrackingDetector | None = None,
        classifier: Classifier | None = None,
        model: str | None = None,
    ) -> None:
        """Go on with other settings from the next frame on; every face stays the track that it is.

        Where another classifier has other labels, what is reported of a face stays until the new one's scores have
        held; if the new one has no such label, it is an update at the next look.

        Args:
            faces: as at the start.
            events: as at the start.
            fps: as at the start.
            idle_fps: as at the start.
            detector: another one; None keeps the old.
            classifier: another one; None keeps the old.
            model: what events call the new classifier; None keeps the old name.
        """
        self._faces, self._events = faces, events
        self._fps, self._idle_fps = fps, idle_fps
        self._tracker.max_age_s = events.max_age_s
        self._detector = detector or self._detector
        self._classifier = classifier or self._classifier
        self._model = _Model(model or self._model.name, self._classifier.card.labels)
        for person in self._people.values():
            person.smoother.settings = events

    def tell_state_anew(self) -> None:
        """Tell the state with the next frame though nothing changes: somebody has not heard it."""
        self._told = None

    def step(self, frame: Frame) -> tuple[list[Event], State | None]:
        """Take in a frame.

        Returns:
            What happened, and the state if it changed or its heartbeat is due.
        """
        self._time, self._epoch = frame.time, frame.epoch
        self._taken.clear()
        self._tracker.start_frame(frame.time)
        self._resting = self._who_rests()
        seen = self._follow(frame.gray)
        if self._must_search():
            seen += self._search(frame.gray)
        self._look([track for track in seen if self._look_is_due(track)], frame.gray)
        with self._timed("track"):
            events = [event for track in self._tracker.end_lost(frame.time) for event in self._end(track)]
            for track in seen:
                person = self._people[track.number]
                person.box = _relative(track.box, *frame.gray.shape)
                events += self._news(person)
            state = self._state()
        for stage, seconds in self._taken.items():
            self.milliseconds[stage].append(seconds * 1e3)
        return events, state

    def let_pass(self, frame: Frame) -> State | None:
        """Let a frame pass unseen after `finish`; the state if nobody has heard it or its heartbeat is due."""
        self._time, self._epoch = frame.time, frame.epoch
        return self._state()

    def finish(self) -> tuple[list[Event], State | None]:
        """End every track and tell the last state, as when the source ends or nobody is to be watched for a while."""
        events = [event for track in self._tracker.end_all() for event in self._end(track)]
        return events, self._state()

    def _follow(self, gray: npt.NDArray[np.uint8]) -> list[Track]:
        """Look for each face near where it was; the tracks whose face is there."""
        moving = [track for track in self._tracker.tracks if track not in self._resting]
        if not moving or self._faces.detect_interval_s <= 0:
            return []
        with self._timed("follow"):
            near = [self._detector.detect_in_roi(gray, track.box) for track in moving]
        with self._timed("track"):
            return self._tracker.update(_distinct(itertools.chain.from_iterable(near)), start_tracks=False)

    def _who_rests(self) -> list[Track]:
        """The faces that are taken to be where they were, for they keep still and were seen just now."""
        longest = min(_RESTS, self._faces.classify_interval_s, self._tracker.max_age_s)
        if self._time - self._followed + _EARLY >= longest:
            self._followed = self._time  # of all of them at once, so that they are looked at together, too
            return []
        tracks = [person.track for person in self._people.values() if person.told is not None]
        return [track for track in tracks if track.stationary and track.last_seen >= self._followed]

    def _missed(self) -> list[Track]:
        return [track for track in self._tracker.tracks if track.missed and track not in self._resting]

    def _must_search(self) -> bool:
        if self._searched is None:
            return True
        since = self._time - self._searched + _EARLY
        tracks, every = self._tracker.tracks, self._faces.detect_interval_s
        if since >= (every if tracks else min(every, 1 / self._idle_fps)):
            return True
        return any(since >= self._searched - track.last_seen for track in self._missed())

    def _search(self, gray: npt.NDArray[np.uint8]) -> list[Track]:
        """Look for faces everywhere; the tracks of those that are there and had not been found yet."""
        since = self._time - self._searched_all + _EARLY
        coarse = bool(self._tracker.tracks) and not self._missed() and since < 2 * self._faces.detect_interval_s
        with self._timed("detect"):
            faces = self._detector.detect(gray, coarse=coarse)
        self._searched = self._time
        if not coarse:
            self._searched_all = self._time
        with self._timed("track"):
            seen = self._tracker.update(faces, coarse=coarse)
        # Those who rest count, too: if it did not see all of them, they would no longer be looked at together.
        if not any(track.missed for track in self._tracker.tracks):
            self._followed = self._time
        return seen

    def _look_is_due(self, track: Track) -> bool:
        person = self._people.get(track.number)
        if person is None or person.model.labels != self._model.labels:
            return True
        every = self._faces.classify_interval_s * (_SETTLED if person.settled else 1)
        return self._time - person.looked + _EARLY >= every

    def _look(self, tracks: list[Track], gray: npt.NDArray[np.uint8]) -> None:
        """Score these faces."""
        if not tracks:
            return
        with self._timed("classify"):
            scores = classify_faces(gray, [track.face for track in tracks], self._detector.crop_spec, self._classifier)
        with self._timed("track"):
            for track, row in zip(tracks, scores, strict=True):
                self._take_in(track, row)

    def _take_in(self, track: Track, scores: npt.NDArray[np.float32]) -> None:
        person = self._people.get(track.number)
        if person is None:
            smoother = Smoother(scores, self._time, self._events)
            self._people[track.number] = _Person(track, self._model, smoother, self._time)
            return
        labels = self._model.labels
        if person.model.labels == labels:
            person.smoother.update(scores, self._time)
        else:
            kept = labels.index(person.told) if person.told in labels else None
            person.smoother = Smoother(scores, self._time, self._events, kept)
        person.settled = int(scores.argmax()) == person.smoother.label
        person.model, person.looked = self._model, self._time

    def _news(self, person: _Person) -> list[Event]:
        """What is to be told of a face that is in view."""
        labels, smoother = person.model.labels, person.smoother
        if person.told is None:
            if person.track.hits < self._events.min_hits:
                return []
            # What is reported first is what looks likeliest by now; nothing was said that it could flicker from.
            smoother.label = int(smoother.scores.argmax())
            person.told = labels[smoother.label]
            return [self._event("new", person, person.told)]
        previous, person.told = person.told, labels[smoother.label]
        return [self._event("update", person, person.told, previous)] if person.told != previous else []

    def _end(self, track: Track) -> list[Event]:
        person = self._people.pop(track.number, None)  # None: the frame that found it was not finished
        return [self._event("end", person, person.told)] if person and person.told is not None else []

    def _event(
        self, kind: Literal["new", "update", "end"], person: _Person, emotion: str, previous: str | None = None
    ) -> Event:
        track, scores = person.track, person.scores()
        return Event(
            event_type=kind,
            id=f"{self._session}-{track.number}",
            time=round(track.last_seen + self._epoch, 3),
            emotion=emotion,
            score=scores[emotion],
            scores=scores,
            previous=previous,
            box=person.box,
            duration_s=round(track.last_seen - track.first_seen, 3),
            model=person.model.name,
        )

    def _state(self) -> State | None:
        people = [person for person in self._people.values() if person.told is not None]
        counts = Counter(person.told for person in people if person.told is not None)
        if self._told and self._told[1] == counts and self._time - self._told[0] < self._events.heartbeat_interval_s:
            return None
        self._told = (self._time, counts)
        time = round(self._time + self._epoch, 3)
        if not people:
            return State(time=time, faces=0, emotion=None, scores={}, counts={})
        rows = [person.scores() for person in people]
        # Just after a change of models, faces may have scores for unlike labels.
        labels = dict.fromkeys(label for row in rows for label in row)
        scores = {label: round(sum(row.get(label, 0.0) for row in rows) / len(rows), 4) for label in labels}
        emotion = max(counts, key=lambda label: (counts[label], scores[label]))
        return State(time=time, faces=len(people), emotion=emotion, scores=scores, counts=dict(counts))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = clock.perf_counter()
        yield
        self._taken[stage] = self._taken.get(stage, 0.0) + clock.perf_counter() - start


def _distinct(faces: Iterable[Face]) -> list[Face]:
    """Faces that may have been found several times, in regions that overlap: the surest of each."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(intersection_over_union(face.box, other.box) < NMS_IOU for other in kept):
            kept.append(face)
    return kept


def _relative(box: Box, rows: int, columns: int) -> tuple[float, float, float, float]:
    """What of a box lies within the image, as x, y, width and height over the image's."""
    left, top = max(box.x, 0) / columns, max(box.y, 0) / rows
    right, bottom = min(box.x + box.width, columns) / columns, min(box.y + box.height, rows) / rows
    return round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4)
