from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import SourceError, SourceLostError
from fer_edge.utils.system import resident_mb
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.opencv import V4l2Camera
from fer_edge_device.capture.supervisor import LiveSource, Timeouts
from tests.device.conftest import LONG, camera_threads, next_frame, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.device.fakes import VideoCapture

QUICK = Timeouts(stall=0.5, give_up=60, hang=5, min_delay=0.01, max_delay=0.08)


@contextlib.contextmanager
def usb_camera(timeouts: Timeouts = QUICK) -> Iterator[LiveSource]:
    camera = LiveSource("/dev/video9", lambda: V4l2Camera("/dev/video9", 640, 480, timeouts.stall), timeouts)
    try:
        yield camera
    finally:
        camera.close()


def test_decodes_only_frames_that_are_read_and_counts_dropped_ones(usb: type[VideoCapture]) -> None:
    with usb_camera() as camera:
        first = next_frame(camera)
        until(lambda: camera._number > first.number + 10)
        then = next_frame(camera)
        assert then.number > first.number + 10
        assert abs(time.time() - then.time - then.epoch) < LONG
        assert then.time > first.time
    assert usb.instances[0].retrieved <= 3


def test_drops_decoded_frame_that_has_grown_old(usb: type[VideoCapture]) -> None:
    with usb_camera() as camera:
        camera.wait_for_frame(LONG)  # decodes the first frame, and leaves it
        until(lambda: camera._number > 10)
        assert next_frame(camera).number > 10
    assert usb.instances[0].retrieved == 2


def test_reopens_failed_camera_and_continues_frame_numbers(usb: type[VideoCapture]) -> None:
    usb.frames_then_fails = 20
    with usb_camera() as camera:
        last = next_frame(camera)
        assert camera.status == "online"
        until(lambda: camera.status == "stalled")
        assert not usb.instances[0].isOpened()
        until(lambda: len(usb.instances) > 1)
        frame = next_frame(camera)
        assert camera.status == "online"
        assert frame.number > last.number
        assert frame.time > last.time


def test_finds_replugged_camera_within_max_delay(usb: type[VideoCapture], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with usb_camera() as camera:
        next_frame(camera)
        usb.opens, usb.dead_nodes = False, ("/dev/video9",)
        until(lambda: len(usb.instances) > 6)
        assert camera.status == "stalled"
        with pytest.raises(NoFrameYet):
            camera.read()
        usb.opens, usb.dead_nodes = True, ()
        back = time.monotonic()
        next_frame(camera)
        # It takes at most the delay and one opening; the rest is for a loaded machine.
        assert time.monotonic() - back < QUICK.max_delay + 5
    lines = [record.getMessage() for record in caplog.records]
    assert "/dev/video9: gave no frame; is it unplugged or in use? (opening it again in" in lines[0]
    assert caplog.records[0].levelno == logging.WARNING
    assert any("cannot be opened" in line for line in lines)
    assert "gives frames again after" in lines[-1]


def test_skips_damaged_frames_without_reopening(usb: type[VideoCapture]) -> None:
    usb.damaged = range(2)
    with usb_camera() as camera:
        camera.wait_for_frame(LONG)
        first = next_frame(camera)
        [capture] = usb.instances
        capture.damaged = range(capture._number, capture._number + 10)  # for this capture only
        assert next_frame(camera).number > first.number
        assert usb.instances == [capture]
        assert capture.isOpened()


def test_reopens_camera_that_gives_only_damaged_frames(usb: type[VideoCapture]) -> None:
    usb.damaged = range(10**6)
    with usb_camera() as camera, pytest.raises(SourceError, match=r"gave no frame but \d+ damaged ones? for"):
        camera.wait_for_frame(LONG)
    with usb_camera() as camera:
        until(lambda: len(usb.instances) > 2)
        usb.damaged = ()
        assert next_frame(camera)


def until_lost(camera: LiveSource) -> None:
    while True:
        with contextlib.suppress(NoFrameYet):
            camera.read()


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    matches = (re.search(r"again in ([0-9.]+) s", record.getMessage()) for record in caplog.records)
    return [float(match[1]) for match in matches if match]


def test_delays_double_up_to_max_delay_and_are_randomized(
    usb: type[VideoCapture], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    timeouts = replace(QUICK, min_delay=0.2, max_delay=0.8)
    with usb_camera(timeouts) as camera:
        next_frame(camera)
        usb.opening_takes = 0.25  # longer than a delay, like a network time-out
        usb.opens, usb.dead_nodes = False, ("/dev/video9",)
        # Messages round to tenths of a second, so some neighbours are equal by chance.
        until(lambda: len(pauses(caplog)) >= 6 and len(set(pauses(caplog)[2:])) > 1)
    for pause, max_pause in zip(pauses(caplog), (0.2, 0.4, 0.8, 0.8, 0.8, 0.8), strict=False):
        assert max_pause / 2 - 0.05 <= pause <= max_pause + 0.05


def test_delays_grow_if_camera_fails_after_each_first_frame(
    usb: type[VideoCapture], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    usb.frames_then_fails = 1
    with usb_camera(replace(QUICK, min_delay=0.1, max_delay=1.6)) as camera:
        next_frame(camera)
        until(lambda: len(pauses(caplog)) >= 4)
    assert pauses(caplog)[3] >= 0.35


def test_gives_up_source_that_stays_away(usb: type[VideoCapture]) -> None:
    with usb_camera(replace(QUICK, give_up=0.4, min_delay=0.01, max_delay=0.05)) as camera:
        next_frame(camera)
        usb.opens, usb.dead_nodes = False, ("/dev/video9",)
        with pytest.raises(SourceLostError, match="/dev/video9: gave no frame for") as caught:
            until_lost(camera)
        assert caught.value.exit_status == 1
        assert "/dev/video9: " in str(caught.value.__cause__)


def test_abandoned_thread_closes_its_capture_when_its_call_returns(
    usb: type[VideoCapture],
) -> None:
    with usb_camera(replace(QUICK, stall=0.1, hang=0.2, min_delay=0.01)) as camera:
        next_frame(camera)
        hung = usb.instances[0]
        hung.hangs = True  # this capture only
        until(lambda: camera.status == "stalled")
        frame = next_frame(camera)
        assert len(usb.instances) == 2
        assert hung.isOpened()
        hung.hangs = False
        until(lambda: not hung.isOpened() and len(camera_threads()) == 1)
        then = next_frame(camera)
        assert then.number > frame.number
        assert usb.instances[1].isOpened()


def test_gives_up_driver_that_hangs_again_and_again(usb: type[VideoCapture]) -> None:
    with usb_camera(replace(QUICK, stall=0.05, hang=0.05, min_delay=0.01)) as camera:
        next_frame(camera)
        usb.hangs = True
        with pytest.raises(SourceLostError, match="the driver hangs again and again"):
            until_lost(camera)
        assert len(camera_threads()) == 4
        usb.hangs = False


def test_hanging_open_blocks_neither_read_nor_close(usb: type[VideoCapture]) -> None:
    usb.frames_then_fails = 3
    with usb_camera() as camera:
        next_frame(camera)
        usb.opening_hangs = True
        until(lambda: len(usb.instances) == 2)
        with pytest.raises(NoFrameYet):
            camera.read()
        assert camera.status == "stalled"
        camera.close()
        usb.opening_hangs = False


def test_wait_for_frame_reports_why_there_is_none(usb: type[VideoCapture]) -> None:
    usb.opens = False
    with usb_camera() as camera, pytest.raises(SourceError, match="/dev/video9: cannot be opened"):
        camera.wait_for_frame(LONG)
    usb.opens, usb.hangs = True, True
    threading.Timer(0.5, setattr, (usb, "hangs", False)).start()
    with usb_camera() as camera, pytest.raises(SourceError, match=r"gave no frame for 0\.2 s; is it unplugged"):
        camera.wait_for_frame(0.2)


def test_thousand_reopenings_leak_no_descriptor_thread_or_memory(
    usb: type[VideoCapture], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "fer_edge_device.capture.supervisor")  # pytest keeps every record
    usb.frames_then_fails, usb.interval = 2, 0
    measured = []
    with usb_camera(replace(QUICK, min_delay=0.0001, max_delay=0.0002)) as camera:
        for openings in (100, 1100):
            while usb.openings < openings:
                with contextlib.suppress(NoFrameYet):
                    camera.read()
                assert sum(capture.isOpened() for capture in usb.instances) <= 1
                del usb.instances[:-2]
            measured.append((len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), resident_mb()))
    before, after = measured
    assert abs(after[0] - before[0]) <= 1  # at that moment, one capture may be open or not
    assert after[1] == before[1]
    assert after[2] - before[2] < 5
