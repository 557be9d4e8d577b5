"""Test the events of faces that a script describes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from fer_edge.modelcard.schema import ClassifierCard, InputSpec
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import EventsSettings

from .playback import EACH_FRAME, LABELS, Frames, Script, make_pipeline, play, sharp_image
from .scenes import video

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_device.messages import Event, State


def test_face_appears_changes_and_leaves() -> None:
    frames: Frames = [[]] * 5 + [[(60.0, "calm")]] * 20 + [[(60.0, "cross")]] * 20 + [[]] * 15
    events, states = play(frames)
    assert [event.event_type for event in events] == ["new", "update", "end"]
    new, update, end = events
    assert (new.id, new.time, new.emotion, new.previous, new.duration_s) == ("s-1", 0.7, "calm", None, 0.2)
    assert new.box == (0.3, 0.2, 0.2, 0.4)
    assert new.model == "script-0"
    assert (update.emotion, update.previous, update.id) == ("cross", "calm", "s-1")
    assert 2.8 <= update.time <= 3.5
    assert (end.emotion, end.time, end.duration_s, end.previous) == ("cross", 4.4, 3.9, None)
    assert [(state.faces, state.emotion) for state in states] == [(0, None), (1.0, "calm"), (1.0, "cross"), (0, None)]


def test_false_positive_of_two_frames_is_never_reported() -> None:
    frames: Frames = [[(60.0, "calm")]] * 2 + [[]] * 20
    events, states = play(frames)
    assert events == []
    assert [state.faces for state in states] == [0]


def test_state_counts_all_faces_and_is_repeated_on_the_heartbeat() -> None:
    frames: Frames = [[(0.0, "merry"), (60.0, "cross"), (140.0, "merry")]] * 110
    events, states = play(frames)
    assert {event.id for event in events} == {"s-1", "s-2", "s-3"}
    full = [state for state in states if state.faces == 3]
    gaps = np.diff([state.time for state in full])
    assert len(gaps) == 2
    assert (gaps >= 5.0).all()
    assert (gaps < 5.15).all()
    assert full[0].counts == {"merry": 2, "cross": 1}
    assert full[0].emotion == "merry"
    assert full[0].scores == {"calm": 0.1, "merry": 0.5667, "cross": 0.3333}


def test_box_is_clipped_to_the_image() -> None:
    events, _ = play([[(-20, "calm")]] * 5)
    assert events[0].box == (0.0, 0.2, 0.1, 0.4)


def test_box_is_relative_to_its_own_frame() -> None:
    script = Script([[(60.0, "calm")]] * 4 + [[]] * 20)
    pipeline = make_pipeline(script, script)
    events = []
    for n in range(24):
        shape = (100, 200) if n < 4 else (20, 30)
        events += pipeline.step(Frame(sharp_image(*shape), n / 10, n))[0]
    assert [(event.event_type, event.box) for event in events] == [
        ("new", (0.3, 0.2, 0.2, 0.4)),
        ("end", (0.3, 0.2, 0.2, 0.4)),
    ]


def test_clock_change_affects_times_but_not_durations() -> None:
    script = Script([[(60.0, "calm")]] * 10)
    pipeline = make_pipeline(script, script)
    events = []
    for n in range(10):
        epoch = 1000.0 if n < 5 else 90_000.0
        events += pipeline.step(Frame(sharp_image(100, 200), n / 10, n, epoch))[0]
    events += pipeline.finish()[0]
    assert [(event.event_type, event.time, event.duration_s) for event in events] == [
        ("new", 1000.2, 0.2),
        ("end", 90_000.9, 0.9),
    ]


def test_thresholds_change_without_losing_a_track() -> None:
    script = Script([[(60.0, "calm")]] * 10 + [[]] * 10)
    pipeline = make_pipeline(script, script)
    frames = list(video([sharp_image(100, 200)] * 20))
    events = [event for frame in frames[:5] for event in pipeline.step(frame)[0]]
    pipeline.reconfigure(EACH_FRAME, EventsSettings(max_age_s=0.25), fps=5.0, idle_fps=1.0)
    assert pipeline.frame_interval == 0.2
    for frame in frames[5:]:
        events += pipeline.step(frame)[0]
        if events[-1].event_type == "end":
            assert frame.time == 1.2
            break
    assert [(event.event_type, event.id, event.duration_s) for event in events] == [
        ("new", "s-1", 0.2),
        ("end", "s-1", 0.9),
    ]
    assert pipeline.frame_interval == 1.0


def play_images(images: list[npt.NDArray[np.uint8]], events: EventsSettings) -> tuple[list[Event], list[State]]:
    script = Script([[(60.0, "calm")]] * len(images))
    pipeline = make_pipeline(script, script, events=events)
    outcomes = [pipeline.step(frame) for frame in video(images)]
    return [event for found, _ in outcomes for event in found], [state for _, state in outcomes if state]


def test_face_that_becomes_blurred_is_unclear_until_it_is_sharp_again() -> None:
    sharp, blurred = sharp_image(100, 200), np.full((100, 200), 90, np.uint8)
    events, states = play_images([sharp] * 10 + [blurred] * 20 + [sharp] * 20, EventsSettings())
    assert [(event.event_type, event.emotion, event.previous, event.reliable) for event in events] == [
        ("new", "calm", None, True),
        ("update", "calm", "calm", False),
        ("update", "calm", "calm", True),
    ]
    assert 1.0 < events[1].time < 2.0
    assert 3.0 < events[2].time < 4.0
    assert events[0].quality
    assert events[1].quality
    assert events[0].quality.sharpness > 0.06 > events[1].quality.sharpness == 0
    assert events[0].quality.size == events[1].quality.size == 40
    assert events[1].scores == events[0].scores  # of every face
    shown = [(state.faces, state.unclear, state.emotion, state.counts) for state in states]
    assert shown == [
        (0, 0, None, {}),
        (1, 0, "calm", {"calm": 1}),
        (1, 1, None, {}),
        (1, 0, "calm", {"calm": 1}),
    ]
    assert [bool(state.scores) for state in states] == [False, True, False, True]


def test_face_that_is_blurred_in_every_other_frame_makes_no_event_each_time() -> None:
    sharp, blurred = sharp_image(100, 200), np.full((100, 200), 90, np.uint8)
    events, _ = play_images([sharp, blurred] * 30, EventsSettings(smoothing_s=1.0))
    assert len(events) <= 2


def test_face_that_was_never_sharp_is_unclear_from_the_start() -> None:
    events, states = play_images([np.full((100, 200), 90, np.uint8)] * 10, EventsSettings())
    assert [(event.event_type, event.reliable) for event in events] == [("new", False)]
    assert (states[-1].faces, states[-1].unclear, states[-1].emotion) == (1, 1, None)


LABELS_WITH_AWE = ("merry", "awe", "cross")


class OtherModel(Script):
    card = ClassifierCard(
        name="other", labels=LABELS_WITH_AWE, input=InputSpec(height=8, width=8, scale=1.0, offset=0.0)
    )

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.tile(np.array([0.2, 0.7, 0.1], np.float32), (len(faces), 1))


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (
            "merry",
            [("new", "merry", 0.2, "script-0"), ("update", "awe", 0.9, "other-0"), ("end", "awe", 1.9, "other-0")],
        ),
        ("calm", [("new", "calm", 0.2, "script-0"), ("update", "awe", 0.5, "other-0"), ("end", "awe", 1.9, "other-0")]),
    ],
)
def test_model_with_other_labels_takes_over_tracks(before: str, expected: list[tuple[str, str, float, str]]) -> None:
    script, other = Script([[(60.0, before)]] * 20), OtherModel([])
    pipeline = make_pipeline(script, script)
    events, states = [], []
    for frame in video([sharp_image(100, 200)] * 20):
        if frame.number == 5:
            pipeline.reconfigure(
                EACH_FRAME, EventsSettings(), fps=10.0, idle_fps=2.0, classifier=other, model="other-0"
            )
        new_events, state = pipeline.step(frame)
        events += new_events
        states += [state] if state else []
    events += pipeline.finish()[0]
    assert [(event.event_type, event.emotion, event.time, event.model) for event in events] == expected
    assert {event.id for event in events} == {"s-1"}
    assert tuple(events[-1].scores) == LABELS_WITH_AWE
    assert tuple(events[0].scores) == LABELS
    assert states[-1].emotion == "awe"
    assert msgspec.json.encode(events[-1])


def test_missing_face_ends_with_scores_of_old_model() -> None:
    script, other = Script([[(60.0, "calm")]] * 5 + [[]] * 20), OtherModel([])
    pipeline = make_pipeline(script, script, events=EventsSettings(heartbeat_interval_s=0.1))
    events = []
    for frame in video([sharp_image(100, 200)] * 20):
        if frame.number == 6:
            pipeline.reconfigure(
                EACH_FRAME, EventsSettings(), fps=10.0, idle_fps=2.0, classifier=other, model="other-0"
            )
        events += pipeline.step(frame)[0]
    assert [(event.event_type, event.emotion, event.model) for event in events] == [
        ("new", "calm", "script-0"),
        ("end", "calm", "script-0"),
    ]
