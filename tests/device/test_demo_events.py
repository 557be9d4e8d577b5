"""Test the events of the demo against its known emotions."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection.factory import make_detector
from fer_edge_device.capture.factory import open_source
from fer_edge_device.config.settings import CameraSettings, EventsSettings, FacesSettings
from fer_edge_device.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from fer_edge_device.messages import Event

EACH_FRAME = FacesSettings(detect_interval_s=0, classify_interval_s=0)
AS_SHIPPED = FacesSettings()


def play(faces: FacesSettings) -> tuple[list[Event], int]:
    """Return the events of the demo, and how often the whole frame was searched."""
    pipeline = Pipeline(
        make_detector(),
        TFLiteClassifier(),
        session="s",
        model="edge",
        faces=faces,
        events=EventsSettings(),
        fps=10.0,
        idle_fps=2.0,
    )
    camera = open_source(CameraSettings(source="demo"), realtime=False)
    events = []
    while (frame := camera.read()) is not None:
        events += pipeline.step(frame)[0]
    return events + pipeline.finish()[0], len(pipeline.milliseconds["detect"])


played = functools.cache(play)


def centre_distance(event: Event, face: demo.TrueFace) -> float:
    x, y = event.box[0] + event.box[2] / 2, event.box[1] + event.box[3] / 2
    box = face.box
    return abs(x - (box.x + box.width / 2) / demo.WIDTH) + abs(y - (box.y + box.height / 2) / demo.HEIGHT)


def actors(events: list[Event]) -> dict[str, int]:
    """Map each track to its actor."""
    return {event.id: nearest_actor(event) for event in events if event.event_type == "new"}


def nearest_actor(event: Event) -> int:
    return min(demo.truth(round(event.time * demo.FPS)), key=lambda face: centre_distance(event, face)).actor


def accuracy(events: list[Event]) -> float:
    """Return the share of time with the right emotion, from the first event of each person on."""
    actor_of = actors(events)
    right = total = 0
    reported: dict[int, str] = {}
    for number in range(demo.FRAMES):
        for event in events:
            if event.time == number / demo.FPS:
                reported[actor_of[event.id]] = event.emotion
        for face in demo.truth(number):
            if face.actor in reported:
                total += 1
                right += reported[face.actor] == face.emotion
    assert total > 200
    return right / total


@pytest.mark.parametrize("faces", [EACH_FRAME, AS_SHIPPED], ids=["each frame", "as shipped"])
def test_each_person_is_one_track_with_mostly_the_right_emotion(faces: FacesSettings) -> None:
    events, _ = played(faces)
    actor_of = actors(events)
    assert sorted(actor_of.values()) == [0, 1, 2]
    assert {event.id for event in events if event.event_type == "end"} == set(actor_of)
    # An emotion is reported only after it has held for a while, so the share cannot exceed about 0.9.
    assert accuracy(events) > 0.8


def test_tracking_needs_less_than_half_of_the_detections_at_similar_accuracy() -> None:
    detected, detections = played(EACH_FRAME)
    tracked, tracked_detections = played(AS_SHIPPED)
    assert detections == demo.FRAMES
    # In the frames with three faces, one detection costs less than three searches around a face.
    assert tracked_detections < demo.FRAMES / 2
    assert accuracy(tracked) > accuracy(detected) - 0.03
    for event, tracked_event in zip(detected, tracked, strict=True):
        if event.event_type == "end":
            assert (event.id, event.emotion) == (tracked_event.id, tracked_event.emotion)
            assert tracked_event.time == pytest.approx(event.time, abs=0.3)
            assert tracked_event.box == pytest.approx(event.box, abs=0.04)


@pytest.mark.parametrize("faces", [EACH_FRAME, AS_SHIPPED], ids=["each frame", "as shipped"])
def test_replay_gives_same_events(faces: FacesSettings) -> None:
    assert play(faces) == played(faces)
