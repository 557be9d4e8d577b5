"""Test with the shipped models that people who walk, run, cross, stop and vanish are one track each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from .playback import Playback
from .scenes import around, scene, video

Position = tuple[float, float, float]  # x and y of the centre, and the side, in pixels
Path = Callable[[int], Position | None]  # by the number of the frame; None while the person is not in view

EMOTIONS = ("happy", "neutral", "surprise")


def across(sides_per_frame: float, side: float = 70, y: float = 240, *, backwards: bool = False) -> Path:
    """Return the path of somebody who crosses the view."""

    def path(number: int) -> Position | None:
        x = side / 2 + sides_per_frame * side * number
        if x > 640:
            return None
        return (640 - x if backwards else x), y, side

    return path


def play(paths: list[Path], frames: int, fps: float = 10) -> tuple[Playback, dict[int, list[int]]]:
    """Play a video of people.

    Returns:
        The playback, and the people on whom each track was, in order.
    """
    playback = Playback()
    people: dict[int, list[int]] = {}
    places = [[path(number) for path in paths] for number in range(frames)]
    images = [
        scene(*((emotion, around(*place)) for emotion, place in zip(EMOTIONS, row, strict=False) if place))
        for row in places
    ]
    for frame, row in zip(video(images, fps), places, strict=True):
        playback.play([frame])
        for track in playback.pipeline._tracker.tracks:
            if not track.missed:
                middle = track.box.x + track.box.width / 2, track.box.y + track.box.height / 2
                apart = sorted(
                    (math.dist(middle, place[:2]) / place[2], person) for person, place in enumerate(row) if place
                )
                if len(apart) == 1 or apart[1][0] - apart[0][0] > 0.5:  # otherwise it may be either
                    people.setdefault(track.number, []).append(apart[0][1])
    return playback, {track: [person for person, _ in itertools.groupby(on)] for track, on in people.items()}


@pytest.mark.parametrize("fps", [10, 30])
@pytest.mark.parametrize("sides_per_second", [3, 6, 8, 10, 15])
def test_person_who_walks_or_runs_across_is_reported_as_one_track(sides_per_second: int, fps: int) -> None:
    frames = math.ceil(640 / 70 / sides_per_second * fps)
    playback, people = play([across(sides_per_second / fps)], frames + 2 * fps, fps)
    assert people == {1: [0]}
    assert [name for name, _ in playback.times("new")] == [name for name, _ in playback.times("end")] == ["s-1"]
    assert playback.times("new")[0][1] == pytest.approx(2 / fps, abs=0.001)


@pytest.mark.parametrize("first", range(5))
def test_runner_is_reported_whenever_the_run_begins(first: int) -> None:
    run = across(1.5)
    playback, people = play([lambda number: run(number - first) if number >= first else None], 25)
    assert people == {1: [0]}
    assert [(name, round(time, 3)) for name, time in playback.times("new")] == [("s-1", (first + 2) / 10)]


@pytest.mark.parametrize("apart", [0, 40])
@pytest.mark.parametrize("sides_per_frame", [0.15, 0.3, 0.6, 1.0])
def test_people_who_cross_keep_their_tracks(sides_per_frame: float, apart: int) -> None:
    paths = [across(sides_per_frame, 80, 220, backwards=True), across(sides_per_frame, 90, 220 + apart)]
    playback, people = play(paths, math.ceil(640 / 80 / sides_per_frame))
    assert sorted(people.values()) == [[0], [1]]
    assert len(playback.times("new")) == 2


@pytest.mark.parametrize("sides_per_frame", [0.3, 0.6, 1.0, 1.5])
def test_person_who_stops_is_one_track(sides_per_frame: float) -> None:
    walk = across(sides_per_frame)
    stop = int(300 / 70 / sides_per_frame)
    playback, people = play([lambda number: walk(min(number, stop))], 25)
    assert people == {1: [0]}
    assert playback.times("end") == []


@pytest.mark.parametrize("sides_per_frame", [0.3, 0.6, 1.0])
def test_person_who_is_hidden_on_the_way_is_one_track(sides_per_frame: float) -> None:
    walk = across(sides_per_frame)
    hidden = range(5, 8)
    _, people = play([lambda number: None if number in hidden else walk(number)], 9)
    assert people == {1: [0]}


@pytest.mark.parametrize("sides", [1.2, 2, 3])
def test_person_who_vanishes_is_not_taken_for_the_next_one(sides: float) -> None:
    first = 150.0, 240.0, 80.0
    second = 150.0 + sides * 80, 240.0, 80.0
    playback, people = play(
        [lambda number: first if number < 10 else None, lambda number: second if number >= 10 else None], 30
    )
    assert people == {1: [0], 2: [1]}
    assert playback.times("end") == [("s-1", 0.9)]
    assert [name for name, _ in playback.times("new")] == ["s-1", "s-2"]
