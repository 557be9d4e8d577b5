from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.card import Card, InputSpec
from fer_edge.crop import AS_IT_IS, Box
from fer_edge.faces import Face
from fer_edge_device.frames import Frame
from fer_edge_device.pipeline import Pipeline

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge_device.messages import Event, State

Frames = list[list[tuple[float, str]]]

LABELS = ("calm", "merry", "cross")


class Script:
    """A detector and a classifier in one that find what a script says, to test what is done with it."""

    framing = AS_IT_IS
    card = Card(name="script", labels=LABELS, input=InputSpec(height=8, width=8, scale=1.0, offset=0.0))

    def __init__(self, frames: Frames) -> None:
        self._frames = iter(frames)
        self._now: list[tuple[float, str]] = []

    def detect(self, gray: npt.NDArray[np.uint8]) -> list[Face]:
        del gray
        self._now = next(self._frames)
        return [Face(Box(x, 20, 40, 40), 1.0) for x, _ in self._now]

    def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        assert faces.shape == (len(self._now), 8, 8)
        return np.array([[0.8 if label == name else 0.1 for name in LABELS] for _, label in self._now], np.float32)


def play(frames: Frames) -> tuple[list[Event], list[State]]:
    script = Script(frames)
    pipeline = Pipeline(script, script, session="s", model="script-0", heartbeat=5.0)
    picture = np.zeros((100, 200), np.uint8)
    outcomes = [pipeline.step(Frame(picture, n / 10, n)) for n in range(len(frames))]
    outcomes.append(pipeline.finish())
    events = list(itertools.chain.from_iterable(events for events, _ in outcomes))
    return events, [state for _, state in outcomes if state]


def test_a_face_appears_changes_and_leaves() -> None:
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


def test_a_false_alarm_of_two_frames_is_never_reported() -> None:
    frames: Frames = [[(60.0, "calm")]] * 2 + [[]] * 20
    events, states = play(frames)
    assert events == []
    assert [state.faces for state in states] == [0]


def test_state_counts_everybody_and_is_told_again_on_the_heartbeat() -> None:
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


def test_a_box_that_reaches_past_the_picture_is_told_within_it() -> None:
    events, _ = play([[(-20, "calm")]] * 5)
    assert events[0].box == (0.0, 0.2, 0.1, 0.4)


def test_a_box_is_told_over_the_frame_it_was_seen_in_also_when_the_next_has_another_size() -> None:
    script = Script([[(60.0, "calm")]] * 4 + [[]] * 20)
    pipeline = Pipeline(script, script, session="s", model="m")
    events = []
    for n in range(24):
        shape = (100, 200) if n < 4 else (20, 30)
        events += pipeline.step(Frame(np.zeros(shape, np.uint8), n / 10, n))[0]
    assert [(event.event_type, event.box) for event in events] == [
        ("new", (0.3, 0.2, 0.2, 0.4)),
        ("end", (0.3, 0.2, 0.2, 0.4)),
    ]


def test_a_clock_that_is_set_changes_what_is_told_but_no_duration() -> None:
    script = Script([[(60.0, "calm")]] * 10)
    pipeline = Pipeline(script, script, session="s", model="m")
    events = []
    for n in range(10):
        epoch = 1000.0 if n < 5 else 90_000.0
        events += pipeline.step(Frame(np.zeros((100, 200), np.uint8), n / 10, n, epoch))[0]
    events += pipeline.finish()[0]
    assert [(event.event_type, event.time, event.duration_s) for event in events] == [
        ("new", 1000.2, 0.2),
        ("end", 90_000.9, 0.9),
    ]


def test_every_stage_of_every_frame_is_timed() -> None:
    script = Script([[(0.0, "calm")], []])
    pipeline = Pipeline(script, script, session="s", model="m")
    for n in range(2):
        pipeline.step(Frame(np.zeros((100, 200), np.uint8), n / 10, n))
    assert {stage: len(taken) for stage, taken in pipeline.milliseconds.items()} == {
        "detect": 2,
        "classify": 2,
        "track": 2,
    }
