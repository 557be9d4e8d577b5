from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.geometry import Box, Face, intersection_over_union
from fer_edge.tracking.tracker import Track, Tracker

if TYPE_CHECKING:
    from collections.abc import Sequence


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


def numbers_of_path(xs: Sequence[float | None], interval: float = 0.1) -> list[int]:
    """Return the track of a face at each of its positions; it is not seen at None."""
    tracker = Tracker(max_age_s=1.0)
    numbers = []
    for n, x in enumerate(xs):
        tracks = step(tracker, [] if x is None else [at(x)], n * interval)
        tracker.end_lost(n * interval)
        numbers += [track.number for track in tracks]
    return numbers


@pytest.mark.parametrize("sides_per_frame", [0.3, 0.6, 0.7, 1.0, 1.5, 2.0, 3.0])
def test_walking_and_running_face_is_one_track(sides_per_frame: float) -> None:
    assert numbers_of_path([100 * sides_per_frame * n for n in range(12)]) == [1] * 12


@pytest.mark.parametrize("sides_per_frame", [0.3, 0.6, 1.0, 1.5])
def test_face_that_is_hidden_on_its_way_is_one_track(sides_per_frame: float) -> None:
    way = [100 * sides_per_frame * n for n in range(20)]
    assert numbers_of_path([*way[:8], None, None, None, None, *way[12:]]) == [1] * 16


@pytest.mark.parametrize("sides_per_frame", [0.3, 0.6, 1.0, 2.0])
def test_face_that_stops_at_once_is_one_track(sides_per_frame: float) -> None:
    assert numbers_of_path([100 * sides_per_frame * min(n, 6) for n in range(16)]) == [1] * 16


def test_velocity_of_slow_sampling_is_not_used() -> None:
    # Two people who sway, one image per second: each is where it was rather than where it was going.
    tracker = Tracker(max_age_s=3.0)
    for n, (left, right) in enumerate([(0, 100), (50, 150), (10, 110), (45, 145)]):
        assert [track.number for track in step(tracker, [at(left), at(right)], n)] == [1, 2]


@pytest.mark.parametrize("sides", [1.0, 1.5, 2.0, 3.0])
def test_another_face_beside_a_still_one_that_vanished_is_another_track(sides: float) -> None:
    assert numbers_of_path([0.0] * 5 + [100 * sides] * 5) == [1] * 5 + [2] * 5


def test_distant_face_after_a_while_is_another_track() -> None:
    assert numbers_of_path([0.0, None, None, None, 150.0]) == [1, 2]


def test_face_of_another_size_is_another_track() -> None:
    tracker = Tracker(max_age_s=1.0)
    step(tracker, [at(0)], 0.0)
    assert step(tracker, [Face(Box(130, 0, 50, 50), 1.0)], 0.1)[0].number == 2


@pytest.mark.parametrize("speed", [8.0, 30.0, 70.0, 120.0])
@pytest.mark.parametrize("hidden", [False, True])
def test_crossing_faces_keep_their_tracks(speed: float, hidden: bool) -> None:  # noqa: FBT001
    tracker = Tracker(max_age_s=1.0)
    frames = round(600 / speed)
    for n in range(frames):
        front, back = speed * n, 600 - speed * n
        behind = hidden and abs(front - back) < 80
        tracks = step(tracker, [at(front)] if behind else [at(front), at(back)], n / 10)
        assert [track.number for track in tracks] == ([1] if behind else [1, 2]), n


def test_predicts_with_constant_velocity() -> None:
    tracker = Tracker(max_age_s=9.0)
    for n in range(10):
        (track,) = step(tracker, [at(30 * n)], n / 10)
    assert track.velocity == pytest.approx((300, 0))
    assert track.predict(1.1).x == pytest.approx(330)
    assert track.predict(0.9) == track.predict(0.5) == track.box
    assert track.predict(60.0).x == pytest.approx(270 + 300)  # for no more than a second
