"""The path of one frame: detect, track, classify, smooth, make events."""

from __future__ import annotations

import itertools
import time as clock
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from fer_edge.classification.classifier import classify_faces
from fer_edge.detection.postprocess import NMS_IOU
from fer_edge.geometry import intersection_over_union
from fer_edge.tracking.tracker import Tracker
from fer_edge_device.pipeline.events import EventMaker, ModelInfo
from fer_edge_device.pipeline.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import TrackingDetector
    from fer_edge.geometry import CropSpec, Face
    from fer_edge.tracking.tracker import Track
    from fer_edge_device.capture.base import Frame
    from fer_edge_device.config.settings import EventsSettings, FacesSettings
    from fer_edge_device.messages import Event, State, VisibleFace
    from fer_edge_device.pipeline.events import TrackedFace

STAGES: Final = ("follow", "detect", "classify", "track")
_MAX_TIMINGS: Final = 1000  # per stage


class FaceConsumer(Protocol):
    """Is shown each face when it has been classified."""

    def consider(
        self,
        gray: npt.NDArray[np.uint8],
        face: TrackedFace,
        face_id: str,
        scores: npt.NDArray[np.float32],
        crop_spec: CropSpec,
    ) -> None:
        """Take what is of interest; never wait, and never fail.

        Args:
            gray: the frame, uint8 of shape (rows, columns), valid during this call.
            face: the face; its quality is that of this classification, and its emotion was reported before.
            face_id: the id of its track.
            scores: the scores of this classification, of shape (labels,).
            crop_spec: how its box became the classifier's input.
        """
        ...


class Pipeline:
    """Turns frames into events. The same frames at the same times give the same events.

    `step` is the path of one frame. `Scheduler` decides what is done in it, and `EventMaker` what is reported.

    Attributes:
        milliseconds: how long each stage took in the latest frames in which it ran; the reader empties it.
        consumer: is shown each classified face; None: nobody is.
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
            detector: finds the faces.
            classifier: scores them.
            session: first part of every track's id.
            model: name of the classifier in events.
            faces: how often to detect and to classify.
            events: when to report.
            fps: maximum frames per second while faces are in view.
            idle_fps: maximum frames per second while no face is in view.
        """
        self._detector, self._classifier = detector, classifier
        self._model = ModelInfo(model, classifier.card.labels)
        self._tracker = Tracker(events.max_age_s)
        self._scheduler = Scheduler(self._tracker, faces, fps=fps, idle_fps=idle_fps)
        self._events = EventMaker(session, events)
        self.consumer: FaceConsumer | None = None
        self._seconds: dict[str, float] = {}
        self.milliseconds: dict[str, deque[float]] = {stage: deque(maxlen=_MAX_TIMINGS) for stage in STAGES}

    @property
    def frame_interval(self) -> float:
        """Minimum time between two frames of a live source, in seconds."""
        return self._scheduler.frame_interval

    @property
    def in_view(self) -> list[Track]:
        """The tracks whose face was in the latest frame, including tracks that are not reported yet."""
        return self._scheduler.tracks_in_view()

    def visible_faces(self) -> list[VisibleFace]:
        """Return the faces in the latest frame, also those that are not reported yet."""
        return self._events.visible_faces(self.in_view)

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
        """Use other settings from the next frame on. Every track goes on.

        If the new classifier has other labels, the reported emotion of a face stays until the scores of the new
        classifier have led for long enough. If the new classifier lacks that label, the next classification of the
        face is an update.

        Args:
            faces: as in ``__init__``.
            events: as in ``__init__``.
            fps: as in ``__init__``.
            idle_fps: as in ``__init__``.
            detector: the new detector; None keeps the present one.
            classifier: the new classifier; None keeps the present one.
            model: name of the new classifier in events; None keeps the present one.
        """
        self._detector = detector or self._detector
        self._classifier = classifier or self._classifier
        self._model = ModelInfo(model or self._model.name, self._classifier.card.labels)
        self._scheduler.reconfigure(faces, fps=fps, idle_fps=idle_fps)
        self.change_events(events)

    @property
    def events_settings(self) -> EventsSettings:
        """When events are made; `change_events` sets it."""
        return self._events.settings

    def change_events(self, settings: EventsSettings) -> None:
        """Make events by other settings from the next frame on."""
        self._tracker.max_age_s = settings.max_age_s
        self._events.reconfigure(settings)

    def current_state(self, time: float) -> State:
        """Return the faces in view, for a new subscriber.

        Args:
            time: the present time, on the clock of the events.
        """
        return self._events.current_state(time)

    def step(self, frame: Frame) -> tuple[list[Event], State | None]:
        """Process a frame.

        Returns:
            The events, and the state if it has changed or its heartbeat is due.
        """
        self._seconds.clear()
        self._tracker.next_frame(frame.time)
        self._events.next_frame(frame)
        self._scheduler.next_frame(frame.time, self._events.reported_tracks())
        found = self._detect(frame.gray)
        self._classify([track for track in found if self._classification_is_due(track)], frame.gray)
        with self._timed("track"):
            events = self._events.end_tracks(self._tracker.end_lost(frame.time))
            events += self._events.make_events(found)
            state = self._events.make_state()
        for stage, seconds in self._seconds.items():
            self.milliseconds[stage].append(seconds * 1e3)
        return events, state

    def skip(self, time: float, epoch: float) -> State | None:
        """Let a moment pass in which nothing is processed, after `finish`.

        Args:
            time: as in `Frame`.
            epoch: as in `Frame`.

        Returns:
            The state if it has changed. It has no heartbeat: that nothing is processed is not that nobody is there.
        """
        self._events.skip_to(time, epoch)
        return self._events.make_state(heartbeat=False)

    def finish(self) -> tuple[list[Event], State | None]:
        """End every track, because the source has ended or frames will be skipped.

        Returns:
            An ``end`` for each reported face, and the state if it has changed.
        """
        return self._events.end_tracks(self._tracker.end_all()), self._events.make_state()

    def _detect(self, gray: npt.NDArray[np.uint8]) -> list[Track]:
        """Detect faces as the scheduler decides, and return the tracks that were found."""
        tracks = self._scheduler.tracks_to_detect()
        if self._scheduler.detection_comes_first(len(tracks), self._detector.roi_cost(gray.shape)):
            found = self._detect_in_frame(gray, coarse=False)
            # Near a track, less certain faces are accepted.
            return found + self._detect_around([track for track in tracks if track.missed], gray)
        found = self._detect_around(tracks, gray)
        if self._scheduler.detection_is_due():
            found += self._detect_in_frame(gray, coarse=self._scheduler.coarse_detection_suffices())
        return found

    def _detect_around(self, tracks: list[Track], gray: npt.NDArray[np.uint8]) -> list[Track]:
        """Detect each face near its predicted position, and return the tracks that were found."""
        if not tracks:
            return []
        with self._timed("follow"):
            near = [self._detector.detect_in_roi(gray, track.predict(self._scheduler.time)) for track in tracks]
        with self._timed("track"):
            return self._tracker.update(_deduplicate(itertools.chain.from_iterable(near)), start_tracks=False)

    def _detect_in_frame(self, gray: npt.NDArray[np.uint8], *, coarse: bool) -> list[Track]:
        """Detect faces in the whole frame, and return the tracks that were not found before in this frame."""
        with self._timed("detect"):
            faces = self._detector.detect(gray, coarse=coarse)
        with self._timed("track"):
            found = self._tracker.update(faces, coarse=coarse)
            self._scheduler.record_detection(coarse=coarse)
        return found

    def _classification_is_due(self, track: Track) -> bool:
        face = self._events.faces.get(track.number)
        # Scores of a classifier with other labels must be replaced.
        if face is None or face.model.labels != self._model.labels:
            return True
        return self._scheduler.classification_is_due(face.classified_at, unchanged=face.unchanged)

    def _classify(self, tracks: list[Track], gray: npt.NDArray[np.uint8]) -> None:
        """Classify the faces of these tracks in one batch, and smooth their scores."""
        if not tracks:
            return
        with self._timed("classify"):
            classified = classify_faces(
                gray, [track.face for track in tracks], self._detector.crop_spec, self._classifier
            )
        with self._timed("track"):
            for track, row, quality in zip(tracks, *classified, strict=True):
                self._events.update_scores(track, row, quality, self._model)
                if self.consumer:
                    face, face_id = self._events.faces[track.number], self._events.track_id(track)
                    self.consumer.consider(gray, face, face_id, row, self._detector.crop_spec)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = clock.perf_counter()
        yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + clock.perf_counter() - start


def _deduplicate(faces: Iterable[Face]) -> list[Face]:
    """Keep the most certain detection of each face: overlapping regions give a face more than once."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: face.score, reverse=True):
        if all(intersection_over_union(face.box, other.box) < NMS_IOU for other in kept):
            kept.append(face)
    return kept
