"""Test the path of a frame, mostly with the shipped models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge.geometry import Box, Face
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import FacesSettings

from .playback import AS_SHIPPED, Playback, Script, make_pipeline
from .scenes import around, patterned_wall, scene, video

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt


def test_times_each_stage() -> None:
    script = Script([[(0.0, "calm")], []])
    pipeline = make_pipeline(script, script)
    for n in range(2):
        pipeline.step(Frame(np.zeros((100, 200), np.uint8), n / 10, n))
    assert {stage: len(times) for stage, times in pipeline.milliseconds.items()} == {
        "follow": 0,
        "detect": 2,
        "classify": 1,
        "track": 2,
    }


def test_boxes_follow_the_face_between_detections() -> None:
    playback = Playback(FacesSettings(detect_interval_s=60))
    playback.play(video(scene(("happy", around(200 + 9 * n, 240 + 4 * n))) for n in range(25)))
    assert playback.models.searches == ["whole"]
    (end,) = playback.pipeline.finish()[0]
    middle = end.box[0] + end.box[2] / 2, end.box[1] + end.box[3] / 2
    assert middle == pytest.approx(((200 + 9 * 24) / 640, (240 + 4 * 24) / 480), abs=0.02)


@pytest.mark.parametrize("after", ["black", "noise", "other scene"])
def test_lights_off_and_scene_cuts_end_faces_and_start_others(after: str) -> None:
    images = {
        "black": np.zeros((480, 640), np.uint8),
        "noise": np.random.default_rng(1).integers(0, 6, (480, 640)).astype(np.uint8),
        "other scene": scene(("angry", around(480, 330)))[:, ::-1].copy(),
    }
    playback = Playback().play(video([scene(("happy", around(420, 150)))] * 10 + [images[after]] * 20))
    assert playback.times("end") == [("s-1", 0.9)]
    assert playback.times("new")[1:] == ([("s-2", 1.2)] if after == "other scene" else [])


def test_face_that_goes_behind_an_edge_ends_there() -> None:
    images = []
    for n in range(40):
        image = scene(("happy", around(200 + 8 * n, 240)))
        image[:, 330:] = patterned_wall()[::-1, 330:]
        images.append(image)
    playback = Playback().play(video(images))
    ((name, time),) = playback.times("end")
    assert name == "s-1"
    assert 0.9 <= time <= 2.3  # between the time it starts to disappear and the time it is hidden
    assert [event.event_type for event in playback.events if event.id != "s-1"] == []


def test_crossing_faces_never_swap_tracks() -> None:
    def images() -> Iterable[npt.NDArray[np.uint8]]:
        for n in range(50):
            yield scene(("neutral", around(520 - 8 * n, 200)), ("happy", around(120 + 8 * n, 250)))

    playback = Playback()
    track_sides = []
    for n, frame in enumerate(video(images())):
        playback.play([frame])
        for track in playback.pipeline._tracker.tracks:
            if track.missed:
                continue
            middle = track.box.x + track.box.width / 2
            to_front, to_back = abs(middle - (120 + 8 * n)), abs(middle - (520 - 8 * n))
            if abs(to_front - to_back) > 80:  # otherwise it may be either
                track_sides.append((track.number, to_front < to_back))
    # A hidden face may return as another track, but no track may jump from one face to the other.
    assert len(set(track_sides)) == len({number for number, _ in track_sides})
    assert {True, False} == {front for _, front in track_sides}
    assert len({number for number, front in track_sides if front}) == 1


def test_fast_face_is_one_track() -> None:
    playback = Playback().play(video(scene(("happy", around(90 + 45 * n, 240))) for n in range(11)))
    assert playback.times("new") == [("s-1", 0.2)]
    assert playback.times("end") == []
    (end,) = playback.pipeline.finish()[0]
    assert end.duration_s == 1.0


def test_tracked_false_positive_is_never_reported() -> None:
    class FalsePositive(Script):
        def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
            del gray, coarse
            self.calls = getattr(self, "calls", 0) + 1
            self._now = [(60.0, "calm")]
            return [Face(Box(300, 200, 100, 100), 1.0)] if self.calls in {1, 2} else []

        def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            return np.full((len(faces), 3), 1 / 3, np.float32)

    script = FalsePositive([])
    pipeline = make_pipeline(script, script, AS_SHIPPED)
    image = patterned_wall()
    searches = []
    for n in range(40):
        events, _ = pipeline.step(Frame(image, n / 10, n))
        assert events == []
        if pipeline._tracker.tracks:
            searches.append(script.calls)
    assert pipeline._tracker.tracks == []
    assert searches[-1] < 8, "it is not searched for in every frame"


def test_replay_gives_same_events_with_tracking() -> None:
    def images() -> list[npt.NDArray[np.uint8]]:
        return [scene(("happy", around(120 + 11 * n, 240 - 2 * n))) for n in range(30)]

    first, second = (Playback().play(video(images(), fps=15)) for _ in range(2))
    assert first.events == second.events
    assert first.events


def test_faces_are_new_after_a_pause() -> None:
    playback = Playback()
    frames = list(video([scene(("happy", around(320, 240)))] * 20))
    playback.play(frames[:6])
    events, state = playback.pipeline.finish()
    assert [event.event_type for event in events] == ["end"]
    assert state is not None
    assert state.faces == 0
    playback.play(frames[10:])
    assert playback.times("new") == [("s-1", 0.2), ("s-2", 1.2)]
