"""One frame's path: faces, tracks, scores, smoothing, events."""

from __future__ import annotations

import time as clock
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from fer_edge.classify import classify_boxes
from fer_edge_device.messages import Event, State
from fer_edge_device.smoothing import Smoother
from fer_edge_device.tracks import Track, Tracker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from fer_edge.classify import Classifier
    from fer_edge.crop import Box
    from fer_edge.faces import FaceDetector
    from fer_edge_device.frames import Frame

STAGES = ("detect", "classify", "track")


@dataclass(slots=True, eq=False)
class _Person:
    """A track that has scores, and that has been reported once it was seen often enough.

    Its box is kept over the width and height of the frame it was seen in: the next may have another size.
    """

    track: Track
    smoother: Smoother
    box: tuple[float, float, float, float]
    reported: bool = False


class Pipeline:
    """Turns frames into events; the same frames at the same times give the same events."""

    def __init__(
        self,
        detector: FaceDetector,
        classifier: Classifier,
        *,
        session: str,
        model: str,
        min_sightings: int = 3,
        lost_after: float = 1.0,
        heartbeat: float = 60.0,
    ) -> None:
        """Put the parts together.

        Args:
            detector: what finds faces.
            classifier: what scores them.
            session: what the tracks' ids begin with.
            model: what events call the model.
            min_sightings: in how many frames a face must be found before it is reported; keeps single
                false alarms of the detector out.
            lost_after: seconds without a sighting after which a face has left.
            heartbeat: seconds after which the state is told again though nothing changed.
        """
        self._detector, self._classifier = detector, classifier
        self._labels = classifier.card.labels
        self._session, self._model = session, model
        self._min_sightings, self._heartbeat = min_sightings, heartbeat
        self._tracker = Tracker(lost_after)
        self._people: dict[int, _Person] = {}
        self._time = self._epoch = 0.0
        self._told: tuple[float, Counter[str]] | None = None
        self.milliseconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
        """What each stage took, frame by frame, until somebody takes the lists away."""

    def step(self, frame: Frame) -> tuple[list[Event], State | None]:
        """Take in a frame.

        Returns:
            What happened, and the state if it changed or its heartbeat is due.
        """
        self._time, self._epoch = frame.time, frame.epoch
        with self._timed("detect"):
            boxes = [face.box for face in self._detector.detect(frame.gray)]
        with self._timed("classify"):
            scores = classify_boxes(frame.gray, boxes, self._detector.framing, self._classifier)
        with self._timed("track"):
            tracks, ended = self._tracker.update(boxes, frame.time)
            events = [event for track in ended for event in self._end(track)]
            for track, row in zip(tracks, scores, strict=True):
                events += self._follow(track, row, frame)
            return events, self._state()

    def finish(self) -> tuple[list[Event], State | None]:
        """End every track and tell the last state, as when the source ends."""
        events = [event for track in self._tracker.end_all() for event in self._end(track)]
        return events, self._state()

    def _follow(self, track: Track, scores: npt.NDArray[np.float32], frame: Frame) -> list[Event]:
        box = _relative(track.box, *frame.gray.shape)
        person = self._people.get(track.number)
        if person is None:
            person = self._people[track.number] = _Person(track, Smoother(scores, frame.time), box)
            changed, previous = False, None
        else:
            person.box = box
            previous = self._labels[person.smoother.label]
            changed = person.smoother.update(scores, frame.time)
        if person.reported:
            return [self._event("update", person, previous)] if changed else []
        if track.sightings < self._min_sightings:
            return []
        # What is reported first is what looks likeliest by now; nothing was said that it could flicker from.
        person.smoother.label = int(person.smoother.scores.argmax())
        person.reported = True
        return [self._event("new", person)]

    def _end(self, track: Track) -> list[Event]:
        person = self._people.pop(track.number)
        return [self._event("end", person)] if person.reported else []

    def _event(self, kind: Literal["new", "update", "end"], person: _Person, previous: str | None = None) -> Event:
        track = person.track
        scores = [round(float(score), 4) for score in person.smoother.scores]
        return Event(
            event_type=kind,
            id=f"{self._session}-{track.number}",
            time=round(track.last_seen + self._epoch, 3),
            emotion=self._labels[person.smoother.label],
            score=scores[person.smoother.label],
            scores=dict(zip(self._labels, scores, strict=True)),
            previous=previous,
            box=person.box,
            duration_s=round(track.last_seen - track.first_seen, 3),
            model=self._model,
        )

    def _state(self) -> State | None:
        people = [person for person in self._people.values() if person.reported]
        counts = Counter(self._labels[person.smoother.label] for person in people)
        if self._told and self._told[1] == counts and self._time - self._told[0] < self._heartbeat:
            return None
        self._told = (self._time, counts)
        time = round(self._time + self._epoch, 3)
        if not people:
            return State(time=time, faces=0, emotion=None, scores={}, counts={})
        mean = np.mean([person.smoother.scores for person in people], axis=0)
        scores = {label: round(float(score), 4) for label, score in zip(self._labels, mean, strict=True)}
        emotion = max(counts, key=lambda label: (counts[label], scores[label]))
        return State(time=time, faces=len(people), emotion=emotion, scores=scores, counts=dict(counts))

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = clock.perf_counter()
        yield
        self.milliseconds[stage].append((clock.perf_counter() - start) * 1e3)


def _relative(box: Box, rows: int, columns: int) -> tuple[float, float, float, float]:
    """What of a box lies within the picture, as x, y, width and height over the picture's."""
    left, top = max(box.x, 0) / columns, max(box.y, 0) / rows
    right, bottom = min(box.x + box.width, columns) / columns, min(box.y + box.height, rows) / rows
    return round(left, 4), round(top, 4), round(right - left, 4), round(bottom - top, 4)
