"""The demo's true labels are known: most must be reported right, by the shipped model on the whole road."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge import demo
from fer_edge.classify import TFLiteClassifier
from fer_edge.faces import HaarDetector
from fer_edge_device.cameras import open_camera
from fer_edge_device.config import CameraSettings
from fer_edge_device.pipeline import Pipeline

if TYPE_CHECKING:
    from fer_edge_device.messages import Event


def play() -> list[Event]:
    pipeline = Pipeline(HaarDetector(), TFLiteClassifier(), session="s", model="edge")
    camera = open_camera(CameraSettings(source="demo"), realtime=False)
    events = []
    while (frame := camera.read()) is not None:
        events += pipeline.step(frame)[0]
    return events + pipeline.finish()[0]


def centre_distance(event: Event, shown: demo.Shown) -> float:
    x, y = event.box[0] + event.box[2] / 2, event.box[1] + event.box[3] / 2
    box = shown.box
    return abs(x - (box.x + box.width / 2) / demo.WIDTH) + abs(y - (box.y + box.height / 2) / demo.HEIGHT)


def test_each_person_is_one_track_and_most_of_the_time_the_right_emotion_is_reported() -> None:
    events = play()
    actor_of: dict[str, int] = {}
    for event in events:
        if event.event_type == "new":
            there = demo.truth(round(event.time * demo.FPS))
            actor_of[event.id] = min(there, key=lambda one: centre_distance(event, one)).actor
    assert sorted(actor_of.values()) == [0, 1, 2]
    assert {event.id for event in events if event.event_type == "end"} == set(actor_of)

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
    # An expression must have held before it is reported, so no more than about 9 in 10 can be.
    assert right / total > 0.6


def test_a_replay_gives_the_same_events() -> None:
    assert play() == play()
