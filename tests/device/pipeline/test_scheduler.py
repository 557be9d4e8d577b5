"""Test when the detector and the classifier run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge import demo
from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.detection import network
from fer_edge.detection.factory import make_detector
from fer_edge_device.capture.base import Frame
from fer_edge_device.config.settings import EventsSettings, FacesSettings

from .playback import Playback, RecordingModels, Script, make_pipeline
from .scenes import around, patterned_wall, scene, video

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.geometry import Face


@pytest.mark.parametrize(("gap", "every"), [(1.0, 2.0), (2.0, 5.0)])
def test_gap_between_frames_longer_than_max_age_ends_no_tracked_face(gap: float, every: float) -> None:
    pipeline = make_pipeline(make_detector(), TFLiteClassifier(), FacesSettings(detect_interval_s=every))
    image = demo.frame(10)
    events = [event for n in range(9) for event in pipeline.step(Frame(image, n * gap, n))[0]]
    assert [event.event_type for event in events] == ["new"]
    assert [event.event_type for event in pipeline.finish()[0]] == ["end"]


def test_moving_face_is_detected_and_classified_on_schedule() -> None:
    playback = Playback().play(video(scene(("happy", around(200 + 6 * n, 240))) for n in range(30)))
    assert [at for at in range(30) if playback.detections[at] > playback.detections[at - 1] or at == 0] == [
        0, 5, 10, 15, 20, 25,
    ]  # fmt: skip
    assert playback.models.searches == ["whole", "coarse"] * 3
    # At 0 and 0.2 s; then, while it stays happy, every 0.4 s, or one frame later if it is skipped as stationary.
    assert playback.models.batches == [1] * 7
    assert playback.times("new") == [("s-1", 0.2)]
    assert playback.pipeline.finish()[0][0].duration_s == 2.9
    assert {stage: len(times) for stage, times in playback.pipeline.milliseconds.items()} == {
        "follow": len(playback.models.roi_boxes),
        "detect": 6,
        "classify": 7,
        "track": 30,
    }


def test_searches_around_stationary_faces_half_as_often() -> None:
    steps = [0] * 20 + [20] * 10 + [0] * 10
    playback, searches = Playback(FacesSettings(detect_interval_s=60)), []
    for frame in video(scene(("happy", around(200 + x, 240))) for x in np.cumsum(steps)):
        playback.play([frame])
        searches.append(len(playback.models.roi_boxes))
    searches_per_frame = np.diff(searches, prepend=0)
    assert searches_per_frame[:7].tolist() == [0, 1, 1, 0, 1, 0, 1]  # it is reported at 0.2 s
    assert searches_per_frame[6:20].tolist() == [1, 0] * 7
    assert searches_per_frame[22:31].tolist() == [1] * 9
    assert searches_per_frame[32:].sum() == 4
    assert playback.models.searches == ["whole"]
    assert playback.times("end") == []
    assert [track.number for track in playback.pipeline.in_view] == [1]


def test_classifies_changing_face_twice_as_often() -> None:
    times: list[float] = []
    now = 0.0
    script = Script([[(20, "calm" if n < 20 else "merry" if n < 27 else "calm")] for n in range(40)])

    class RecordingClassifier:
        card = script.card

        def classify(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            times.append(round(now, 1))
            return script.classify(faces)

    faces = FacesSettings(detect_interval_s=0, classify_interval_s=0.2)
    pipeline = make_pipeline(script, RecordingClassifier(), faces, EventsSettings(hold_s=5))
    for frame in video([patterned_wall()] * 40):
        now = frame.time
        pipeline.step(frame)
    calm = [0.0, 0.2, 0.6, 1.0, 1.4, 1.8]
    merry = [2.2, 2.4, 2.6]
    assert times == [*calm, *merry, 2.8, 3.2, 3.6]


def test_classifies_due_faces_in_one_batch() -> None:
    people = (("happy", around(120, 150)), ("neutral", around(330, 150)), ("angry", around(520, 330)))
    playback = Playback().play(video([scene(*people)] * 10))
    assert len(playback.models.batches) > 2
    assert set(playback.models.batches) == {3}


@pytest.mark.parametrize(
    ("people", "dot_products", "cheaper"),
    [
        (1, True, "around faces"),
        (2, True, "around faces"),
        (3, True, "whole"),
        (8, True, "whole"),
        (3, False, "around faces"),
        (5, False, "around faces"),
        (8, False, "whole"),
    ],
)
def test_takes_the_cheaper_search_for_moving_faces(
    monkeypatch: pytest.MonkeyPatch, *, people: int, dot_products: bool, cheaper: str
) -> None:
    monkeypatch.setattr(network, "has_dot_products", lambda: dot_products)
    places = [(x, y) for y in (130, 350) for x in (85, 240, 395, 550)][:people]
    playback = Playback().play(
        video(
            scene(*(("happy", around(x + 30 * math.sin(n / 2), y + 30 * math.cos(n / 2), 105)) for x, y in places))
            for n in range(20)
        )
    )
    roi_cost = playback.models.roi_cost((480, 640))
    cost = playback.models.searches.count("whole") + roi_cost * len(playback.models.roi_boxes)
    if cheaper == "whole":
        assert cost < 1.15 * 20  # almost no face has to be searched for again
        assert len(playback.pipeline.in_view) == people
    else:
        assert playback.models.searches == ["whole", "coarse"] * 2
        assert cost < 20
    assert len(playback.times("new")) == people


def test_still_faces_are_skipped_even_if_they_are_many() -> None:
    places = [(x, y) for y in (130, 350) for x in (85, 240, 395, 550)]
    playback = Playback().play(video([scene(*(("happy", around(x, y, 105)) for x, y in places))] * 20))
    assert 9 <= playback.models.searches.count("whole") <= 13
    assert len(playback.models.roi_boxes) < len(places)


def test_face_that_only_a_search_around_it_finds_is_kept_among_many() -> None:
    class Shy(RecordingModels):
        """In the whole frame, the detector misses the first face after a while."""

        def detect(self, gray: npt.NDArray[np.uint8], *, coarse: bool = False) -> list[Face]:
            faces = super().detect(gray, coarse=coarse)
            return faces if len(self.searches) < 5 else [face for face in faces if face.box.x > 150]

    places = [(x, y) for y in (130, 350) for x in (85, 240, 395, 550)]
    playback = Playback()
    playback.models = Shy()
    playback.pipeline = make_pipeline(playback.models, playback.models, FacesSettings())
    playback.play(
        video(
            scene(*(("happy", around(x + 30 * math.sin(n / 2), y + 30 * math.cos(n / 2), 105)) for x, y in places[:6]))
            for n in range(30)
        )
    )
    assert len(playback.times("new")) == 6
    assert playback.times("end") == []


def test_searches_for_lost_face_at_growing_intervals_until_it_ends() -> None:
    here = [scene(("happy", around(320, 240)))] * 11
    playback = Playback().play(video(here + [patterned_wall()] * 15))
    searched = [at for at in range(11, 26) if playback.detections[at] > playback.detections[at - 1]]
    # In frame 11 it was skipped as stationary, and in frame 20 it ends: then every frame is searched.
    assert searched == [12, 14, 18, *range(21, 26)]
    (end,) = (event for event in playback.events if event.event_type == "end")
    assert (end.time, end.duration_s) == (1.0, 1.0)


def test_idles_without_faces_and_finds_new_face_in_next_frame() -> None:
    empty, with_face = patterned_wall(), scene(("happy", around(320, 240)))
    playback = Playback().play(video([empty] * 3 + [with_face] * 3, fps=2))
    assert playback.intervals == [0.5, 0.5, 0.5, 0.1, 0.1, 0.1]
    assert playback.detections == [1, 2, 3, 4, 5, 6]
    playback.play([Frame(empty, 3.1 + n / 10, n) for n in range(15)])
    assert playback.intervals[-1] == 0.5
