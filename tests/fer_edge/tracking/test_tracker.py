from __future__ import annotations

import pytest

from fer_edge.geometry import Box, Face, intersection_over_union
from fer_edge.tracking.tracker import Track, Tracker


def square(x: float, y: float = 0) -> Box:
    return Box(x, y, 100, 100)


def at(x: float) -> Face:
    return Face(square(x), 1.0)


def step(tracker: Tracker, faces: list[Face], time: float) -> list[Track]:
    tracker.next_frame(time)
    return tracker.update(faces)


def test_intersection_over_union() -> None:
    assert intersection_over_union(square(0), square(0)) == 1
    assert intersection_over_union(square(0), square(50)) == pytest.approx(1 / 3)
    assert intersection_over_union(square(0), square(100)) == 0
    assert intersection_over_union(square(0), square(0, 250)) == 0


def test_moving_face_keeps_its_track() -> None:
    tracker = Tracker(max_age_s=1.0)
    numbers = {step(tracker, [at(30 * n)], n / 10)[0].number for n in range(20)}
    assert numbers == {1}


def test_order_of_detections_does_not_matter() -> None:
    tracker = Tracker(max_age_s=1.0)
    first = step(tracker, [at(0), at(300)], 0.0)
    swapped = step(tracker, [at(290), at(10)], 0.1)
    assert [track.number for track in first] == [1, 2]
    assert [track.number for track in swapped] == [2, 1]


def test_matches_the_best_pair_first() -> None:
    tracker = Tracker(max_age_s=1.0)
    step(tracker, [at(0)], 0.0)
    tracks = step(tracker, [at(60), at(5)], 0.1)
    assert [track.number for track in tracks] == [2, 1]


def test_ends_a_track_only_after_max_age() -> None:
    tracker = Tracker(max_age_s=1.0)
    step(tracker, [at(0)], 0.0)
    assert step(tracker, [], 0.9) == []
    assert tracker.tracks[0].missed
    assert tracker.end_lost(0.9) == []
    assert step(tracker, [at(5)], 0.95)[0].number == 1
    assert not tracker.tracks[0].missed
    assert step(tracker, [], 2.0) == []
    assert [(track.number, track.last_seen, track.hits) for track in tracker.end_lost(2.0)] == [(1, 0.95, 2)]
    assert tracker.tracks == []
    assert step(tracker, [at(5)], 2.1)[0].number == 2


def test_end_all_ends_every_track() -> None:
    tracker = Tracker(max_age_s=1.0)
    step(tracker, [at(0), at(300)], 0.0)
    assert len(tracker.end_all()) == 2
    assert tracker.end_all() == []


def test_updates_a_track_once_per_frame_and_starts_none_unless_asked() -> None:
    tracker = Tracker(max_age_s=1.0)
    step(tracker, [at(0), at(300)], 0.0)
    tracker.next_frame(0.1)
    assert [track.number for track in tracker.update([at(10), at(600)], start_tracks=False)] == [1]
    assert [track.missed for track in tracker.tracks] == [False, True]
    assert [track.number for track in tracker.update([at(290), at(15), at(600)])] == [2, 3]
    assert [(track.box.x, track.hits) for track in tracker.tracks] == [(10, 2), (290, 2), (600, 1)]


def test_coarse_detection_keeps_the_box_of_a_stationary_face() -> None:
    for coarse, x, where, stationary in ((False, 5, 5, True), (True, 30, 0, True), (True, 60, 60, False)):
        tracker = Tracker(max_age_s=1.0)
        step(tracker, [at(0)], 0.0)
        tracker.next_frame(0.1)
        (track,) = tracker.update([at(x)], coarse=coarse)
        assert (track.box.x, track.stationary, track.last_seen, track.missed) == (where, stationary, 0.1, False)
