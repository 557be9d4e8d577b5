"""Test how many frames of a live camera are processed, on a clock that only moves when a frame comes."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge_device.capture import supervisor
from fer_edge_device.capture.base import Pace, paced_frames
from fer_edge_device.capture.supervisor import LiveSource, Timeouts
from tests.device.conftest import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from fer_edge_device.capture.base import Frame

TIMEOUTS = Timeouts(stall=1e6, give_up=1e6, hang=1e6)


class Metronome:
    """A camera that takes a frame when somebody waits for one, or when it is told to.

    Attributes:
        now: the time.
        decoded: number of frames that were decoded.
    """

    def __init__(self, fps: float, jitter: float = 0.0) -> None:
        """Begin at an arbitrary time.

        Args:
            fps: frames per second of its time.
            jitter: how far a frame may be from its place, in seconds.
        """
        self.now, self.decoded = 1000.0, 0
        self._interval, self._jitter = 1 / fps, jitter
        self._rng = np.random.default_rng(1)
        self._start, self._number = self.now, 0
        self._ordered = threading.Semaphore(0)
        self.source: LiveSource | None = None

    def take(self, frames: int) -> None:
        """Take frames while nobody waits for one."""
        assert self.source is not None
        last = self.source._number + frames
        for _ in range(frames):
            self._ordered.release()
        until(lambda: self.source is not None and self.source._number == last)

    def open(self) -> None:
        pass

    def grab(self) -> bool:
        while self.source is None or not (self.source._frame_wanted or self._number == 0):
            if self._ordered.acquire(timeout=0.001):
                break
            if self.source is not None and self.source._closing.is_set():
                return False
        self._number += 1
        self.now = self._start + self._number * self._interval + self._rng.uniform(-self._jitter, self._jitter)
        return True

    def retrieve(self) -> npt.NDArray[np.uint8]:
        self.decoded += 1
        return np.zeros((4, 4), np.uint8)

    def stop(self) -> None:
        pass

    close = stop


@pytest.fixture
def metronomes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Metronome]]:
    """Make every metronome that a test appends the clock of its source."""
    made: list[Metronome] = []
    clock = SimpleNamespace(monotonic=lambda: made[-1].now, time=time.time)
    monkeypatch.setattr(supervisor, "time", clock)
    yield made
    for metronome in made:
        assert metronome.source is not None
        metronome.source.close()


def started(made: list[Metronome], metronome: Metronome) -> LiveSource:
    made.append(metronome)
    metronome.source = LiveSource("metronome", lambda: metronome, TIMEOUTS)
    metronome.source.wait_for_frame(60)
    return metronome.source


def read_for(source: LiveSource, seconds: float, fps: float) -> list[Frame]:
    """Return the frames of some seconds of the source's time."""
    frames: list[Frame] = []
    for frame in paced_frames(source, lambda: 1 / fps):
        if frames and frame.time - frames[0].time >= seconds:
            break
        frames.append(frame)
    return frames


@pytest.mark.parametrize("camera_fps", [9.97, 10, 10.03, 12, 15, 24, 25, 29.97, 30, 60])
@pytest.mark.parametrize("jitter", [0.0, 0.01])
def test_gives_ten_frames_per_second_of_any_camera_that_has_them(
    metronomes: list[Metronome], camera_fps: float, jitter: float
) -> None:
    metronome = Metronome(camera_fps, min(jitter, 0.3 / camera_fps))
    frames = read_for(started(metronomes, metronome), 20, fps=10)
    assert len(frames) / 20 == pytest.approx(10, abs=0.15)
    assert metronome.decoded <= len(frames) + 2
    assert sum(frame.dropped for frame in frames) == 0
    numbers = [frame.number for frame in frames]
    assert numbers[-1] - numbers[0] == pytest.approx(20 * camera_fps, abs=camera_fps / 10 + 1)


def test_gives_every_frame_of_a_slower_camera(metronomes: list[Metronome]) -> None:
    frames = read_for(started(metronomes, Metronome(7, 0.02)), 20, fps=10)
    assert np.diff([frame.number for frame in frames]).tolist() == [1] * (len(frames) - 1)
    assert len(frames) == pytest.approx(140, abs=1)


def test_frames_that_come_while_another_is_processed_are_dropped_if_they_were_wanted(
    metronomes: list[Metronome],
) -> None:
    metronome = Metronome(30)
    missed: list[tuple[int, int]] = []  # frames before each frame, and how many of them were dropped
    number = None
    for frame in paced_frames(started(metronomes, metronome), lambda: 0.1):
        missed.append((frame.number - number - 1 if number is not None else 0, frame.dropped))
        number = frame.number
        if len(missed) == 40:
            break
        if len(missed) % 10 == 0:
            metronome.take(5)  # processing takes as long as five frames
    # The third of them is wanted. It and the two after it come while the frame before is processed.
    assert missed[10::10] == [(5, 3)] * 3
    del missed[10::10]
    assert {dropped for _, dropped in missed} == {0}
    assert {frames for frames, _ in missed[1:]} <= {0, 1, 2}


def test_pace_does_not_catch_up_after_a_pause() -> None:
    pace = Pace()
    for time_of_frame in (5.0, 5.1, 5.25, 5.3):
        pace.take(time_of_frame, 0.1)
    assert pace.next_time(0.1) == pytest.approx(5.4)
    pace.take(9.0, 0.1)
    assert pace.next_time(0.1) == pytest.approx(9.1)
    assert pace.next_time(0.5) == pytest.approx(9.5)
