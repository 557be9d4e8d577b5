"""Pipelines with scripted and real models that record their events."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import make_detector
from fer_edge.geometry import NO_MARGIN, Box, Face
from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import EventsSettings, FacesSettings
from fer_edge_device.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from fer_edge.classification.classifier import Classifier
    from fer_edge.detection.base import TrackingDetector
    from fer_edge_device.messages import Event, State

Frames = list[list[tuple[float, str]]]


LABELS = ("calm", "merry", "cross")


class Script:
    """A detector and classifier whose outputs a script defines."""

    crop_spec = NO_MARGIN
    card = ClassifierCard(name="script", labels=LABELS, input=InputSpec(height=8, width=8, scale=1.0, offset=0.0))

    def __init__(self, frames: Frames) -> None:
        self._frames = iter(frames)
        self._now: list[tuple[float, str]] = []

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        del gray, coarse
        self._now = next(self._frames)
        return [Face(Box(x, 20, 40, 40), 1.0) for x, _ in self._now]

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        del gray, box
        return []

    def roi_cost(self, shape: tuple[int, ...]) -> float:
        del shape
        return 0.2

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert faces.shape == (len(self._now), 8, 8)
        return np.array([[0.8 if label == name else 0.1 for name in LABELS] for _, label in self._now], np.float32)


EACH_FRAME = FacesSettings(detect_interval_s=0, classify_interval_s=0)


def make_pipeline(
    detector: TrackingDetector,
    classifier: Classifier,
    faces: FacesSettings = EACH_FRAME,
    events: EventsSettings = EventsSettings(),  # noqa: B008 - it is frozen
) -> Pipeline:
    return Pipeline(
        detector, classifier, session="s", model="script-0", faces=faces, events=events, fps=10.0, idle_fps=2.0
    )


def sharp_image(rows: int, columns: int) -> npt.NDArray[np.uint8]:
    """Return noise: an image in which every box is sharp enough."""
    return np.random.default_rng(rows).integers(0, 256, (rows, columns)).astype(np.uint8)


def play(frames: Frames) -> tuple[list[Event], list[State]]:
    script = Script(frames)
    pipeline = make_pipeline(script, script, events=EventsSettings(heartbeat_interval_s=5.0))
    image = sharp_image(100, 200)
    outcomes = [pipeline.step(Frame(image, n / 10, n)) for n in range(len(frames))]
    outcomes.append(pipeline.finish())
    events = list(itertools.chain.from_iterable(events for events, _ in outcomes))
    return events, [state for _, state in outcomes if state]


AS_SHIPPED = FacesSettings()


class RecordingModels:
    """The shipped detector and classifier with a record of their calls."""

    def __init__(self) -> None:
        self._detector, self._classifier = make_detector(), TFLiteClassifier()
        self.crop_spec = self._detector.crop_spec
        self.card = self._classifier.card
        self.searches: list[str] = []
        self.roi_boxes: list[Box] = []
        self.batches: list[int] = []

    def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
        self.searches.append("coarse" if coarse else "whole")
        return self._detector.detect(gray, coarse=coarse)

    def detect_in_roi(self, gray: npt.NDArray[np.uint8], box: Box) -> list[Face]:
        self.roi_boxes.append(box)
        return self._detector.detect_in_roi(gray, box)

    def roi_cost(self, shape: tuple[int, ...]) -> float:
        return self._detector.roi_cost(shape)

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.batches.append(len(faces))
        return self._classifier.classify(faces)


class Playback:
    """A pipeline with the shipped models and a record of its events."""

    def __init__(self, faces: FacesSettings = AS_SHIPPED) -> None:
        self.models = RecordingModels()
        self.pipeline = make_pipeline(self.models, self.models, faces)
        self.events: list[Event] = []
        self.intervals: list[float] = []
        self.detections: list[int] = []  # up to each frame

    def play(self, frames: Iterable[Frame]) -> Playback:
        for frame in frames:
            self.events += self.pipeline.step(frame)[0]
            self.intervals.append(self.pipeline.frame_interval)
            self.detections.append(len(self.models.searches))
        return self

    def times(self, kind: str) -> list[tuple[str, float]]:
        return [(event.id, event.time) for event in self.events if event.event_type == kind]
