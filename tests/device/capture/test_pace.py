"""Test how many frames of a live camera are processed, on a clock that only moves when a frame comes."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fer_edge_device.capture import supervisor
from fer_edge_device.capture.base import Frame, Pace, paced_frames
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.supervisor import CameraReader
from tests.device.conftest import LONG, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from fer_edge_device.capture.channel import FromCamera
    from fer_edge_device.messages import CameraStatus

TIMEOUTS = Timeouts(stall=1e6, give_up=1e6, hang=1e6)


class Metronome:
    """A camera that takes a frame when somebody waits for one, or when it is told to; and who waits, in this process.

    Attributes:
        now: the time.
        decoded: number of frames that were decoded.
    """

    live = True
    status: CameraStatus = "online"

    def __init__(self, fps: float, jitter: float = 0.0) -> None:
        """Begin at an arbitrary time.

        Args:
            fps: frames per second of its time.
            jitter: how far a frame may be from its place, in seconds.
        """
        self.now, self.decoded = 1000.0, 0
        self._interval, self._jitter = 1 / fps, jitter
        self._rng = np.random.default_rng(1)
        self._start, self._number, self._newest = self.now, 0, -1
        self._ordered = threading.Semaphore(0)
        self._frames: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._closing = threading.Event()
        self.wanted, self.not_before = False, 0.0
        self._thread = threading.Thread(target=self._read_until_closed)

    def start(self) -> None:
        """Read the camera in a thread."""
        self._thread.start()
        until(lambda: self._newest >= 0)

    def _read_until_closed(self) -> None:
        with contextlib.suppress(EOFError):
            CameraReader("metronome", "metronome", self, TIMEOUTS, self).run()

    def take(self, frames: int) -> None:
        """Take frames while nobody waits for one."""
        last = self._newest + frames
        for _ in range(frames):
            self._ordered.release()
        until(lambda: self._newest == last)

    # As a source of frames:

    def read(self, not_before: float = 0.0) -> Frame:
        self.not_before = not_before
        self.wanted = True
        return self._frames.get(timeout=LONG)

    def close(self) -> None:
        self._closing.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    # As a device:

    def open(self) -> None:
        pass

    def grab(self) -> bool:
        while not (self.wanted or self._number == 0):
            if self._ordered.acquire(timeout=0.001):
                break
            if self._closing.is_set():
                return False
        self._number += 1
        self.now = self._start + self._number * self._interval + self._rng.uniform(-self._jitter, self._jitter)
        return True

    def retrieve(self) -> npt.NDArray[np.uint8]:
        self.decoded += 1
        return np.zeros((4, 4), np.uint8)

    def stop(self) -> None:
        pass

    # As who wants the frames:

    def expect(self, seconds: float) -> None:
        pass

    def send(self, message: FromCamera) -> None:
        pass

    def wait(self, seconds: float) -> None:
        pass

    def check(self) -> None:
        if self._closing.is_set():
            raise EOFError

    def take_missed(self) -> bool:
        return False

    def note_frame(self, number: int, time: float) -> None:  # noqa: ARG002
        self._newest = number

    def give(self, gray: npt.NDArray[np.uint8], number: int, time: float, epoch: float, dropped: int) -> None:
        self.wanted = False
        self._frames.put(Frame(gray, time, number, epoch, dropped))


@pytest.fixture
def metronomes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Metronome]]:
    """Make every metronome that a test appends the clock of its reader."""
    made: list[Metronome] = []
    clock = SimpleNamespace(monotonic=lambda: made[-1].now, time=time.time)
    monkeypatch.setattr(supervisor, "time", clock)
    yield made
    for metronome in made:
        metronome.close()


def started(made: list[Metronome], metronome: Metronome) -> Metronome:
    made.append(metronome)
    metronome.start()
    return metronome


def read_for(source: Metronome, seconds: float, fps: float) -> list[Frame]:
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
