"""The demo's true labels are known: most must be reported right, by the shipped model on the whole road."""

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
    """What is told of the demo, and how often the detector looked."""
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


def centre_distance(event: Event, shown: demo.Shown) -> float:
    x, y = event.box[0] + event.box[2] / 2, event.box[1] + event.box[3] / 2
    box = shown.box
    return abs(x - (box.x + box.width / 2) / demo.WIDTH) + abs(y - (box.y + box.height / 2) / demo.HEIGHT)


def actors(events: list[Event]) -> dict[str, int]:
    """Who each track is."""
    return {event.id: nearest_actor(event) for event in events if event.event_type == "new"}


def nearest_actor(event: Event) -> int:
    return min(demo.truth(round(event.time * demo.FPS)), key=lambda shown: centre_distance(event, shown)).actor


def right_share(events: list[Event]) -> float:
    """Of the time that people have been in view since they were reported: the share with the right emotion."""
    actor_of = actors(events)
    right = total = 0
    reported: dict[int, str] = {}
    for number in range(demo.FRAMES):
        for event in events:
            if event.time == number / demo.FPS:
                reported[actor_of[event.id]] = event.emotion
        for shown in demo.truth(number):
            if shown.actor in reported:
                total += 1
                right += reported[shown.actor] == shown.emotion
    assert total > 200
    return right / total


@pytest.mark.parametrize("faces", [EACH_FRAME, AS_SHIPPED], ids=["each frame", "as shipped"])
def test_each_person_is_one_track_and_most_of_the_time_the_right_emotion_is_reported(faces: FacesSettings) -> None:
    events, _ = played(faces)
    actor_of = actors(events)
    assert sorted(actor_of.values()) == [0, 1, 2]
    assert {event.id for event in events if event.event_type == "end"} == set(actor_of)
    # An expression must have held before it is reported, so no more than about 9 in 10 can be.
    assert right_share(events) > 0.8


def test_following_costs_a_third_of_the_detections_and_hardly_any_accuracy() -> None:
    each, detections = played(EACH_FRAME)
    followed, fewer = played(AS_SHIPPED)
    assert detections == demo.FRAMES
    assert fewer <= demo.FRAMES / 3
    assert right_share(followed) > right_share(each) - 0.03
    for one, other in zip(each, followed, strict=True):
        if one.event_type == "end":
            assert (one.id, one.emotion) == (other.id, other.emotion)
            assert other.time == pytest.approx(one.time, abs=0.3)
            assert other.box == pytest.approx(one.box, abs=0.04)


@pytest.mark.parametrize("faces", [EACH_FRAME, AS_SHIPPED], ids=["each frame", "as shipped"])
def test_a_replay_gives_the_same_events(faces: FacesSettings) -> None:
    assert play(faces) == played(faces)
