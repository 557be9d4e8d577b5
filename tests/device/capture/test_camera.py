"""Test switching a camera off and on, and waiting for one that is missing."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest

from fer_edge.errors import SourceError, SourceLostError
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.camera import Camera, Opening
from fer_edge_device.capture.factory import make_source
from fer_edge_device.capture.opencv import V4l2Camera
from fer_edge_device.capture.supervisor import LiveSource, Timeouts
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import LONG, camera_threads, next_frame, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fer_edge_device.capture.base import SwitchableSource
    from tests.device.fakes import VideoCapture

SETTINGS = CameraSettings(source="/dev/video9")
QUICK = Timeouts(stall=0.5, give_up=60, hang=5, min_delay=0.01, max_delay=0.08)


@contextlib.contextmanager
def usb_camera(*, wait: bool = False) -> Iterator[SwitchableSource]:
    camera = make_source(SETTINGS, wait=wait)
    try:
        yield camera
    finally:
        camera.close()


def open_quickly(opening: Opening) -> LiveSource:
    source = LiveSource("/dev/video9", lambda: V4l2Camera("/dev/video9", 640, 480, QUICK.stall), QUICK)
    opening.add(source)
    source.wait_for_frame(LONG)
    return source


def read_until_lost(camera: Camera) -> None:
    while True:
        with contextlib.suppress(NoFrameYet):
            camera.read()


def test_opens_nothing_until_needed(usb: type[VideoCapture]) -> None:
    with usb_camera() as camera:
        assert camera.status == "disabled"
        with pytest.raises(NoFrameYet):
            camera.read()
        assert not usb.instances


def test_closes_the_device_and_opens_it_again_without_a_gap_in_the_numbers(usb: type[VideoCapture]) -> None:
    with usb_camera() as camera:
        last = None
        for opening in range(3):
            camera.open()
            camera.open()
            frame = next_frame(camera)
            until(lambda: camera.status == "online")
            assert last is None or (frame.number == last.number + 1 and frame.time > last.time)
            assert frame.dropped == 0, "nothing is missed while the camera is closed"
            last = next_frame(camera)
            camera.close()
            assert camera.status == "disabled"
            assert not camera_threads()
            assert [capture.isOpened() for capture in usb.instances] == [False] * (opening + 1)
            with pytest.raises(NoFrameYet):
                camera.read()
    assert len(usb.instances) == 3


def test_waits_for_a_missing_camera_and_logs_the_reason_once(
    usb: type[VideoCapture], caplog: pytest.LogCaptureFixture
) -> None:
    usb.opens = False
    with usb_camera() as camera:
        camera.open()
        until(lambda: len(usb.instances) > 2)
        assert camera.status == "offline"
        with pytest.raises(NoFrameYet):
            camera.read()
        assert caplog.text.count("/dev/video9: cannot be opened") == 1
        usb.opens = True
        next_frame(camera)
        until(lambda: camera.status == "online")


def test_fails_at_once_if_it_is_to_wait_for_a_missing_camera(usb: type[VideoCapture]) -> None:
    usb.opens = False
    with usb_camera(wait=True) as camera:
        with pytest.raises(SourceError, match="/dev/video9: cannot be opened"):
            camera.open()
        usb.opens = True
        camera.open()
        assert camera.status == "online"


def test_gives_up_a_camera_that_stays_missing_and_says_why(usb: type[VideoCapture]) -> None:
    usb.opens = False
    camera = Camera("/dev/video9", open_quickly, give_up=0.7, hang=LONG)
    camera.open()
    with pytest.raises(SourceLostError, match=r"/dev/video9: cannot be opened; .*; gave up after \d+ s"):
        read_until_lost(camera)
    camera.close()


def test_closing_ends_an_opening_at_once(usb: type[VideoCapture]) -> None:
    usb.frames_then_fails, usb.interval = None, 0.05
    usb.damaged = range(10**6)  # it opens, and would be waited for
    with usb_camera() as camera:
        camera.open()
        until(lambda: any(capture.retrieved for capture in usb.instances))
        camera.close()
        assert camera.status == "disabled"
        assert not any(capture.isOpened() for capture in usb.instances)


def test_is_not_disabled_before_a_hanging_driver_has_closed_the_device(usb: type[VideoCapture]) -> None:
    camera = Camera("/dev/video9", open_quickly, give_up=LONG, hang=0.3)
    camera.open()
    next_frame(camera)
    usb.hangs = True
    until(lambda: camera.status == "stalled")
    camera.close(0.05)
    assert camera.status == "stalled"
    assert usb.instances[0].isOpened()
    with pytest.raises(SourceLostError, match="cannot be switched off, because its driver hangs"):
        read_until_lost(camera)
    camera.open()
    assert len(usb.instances) == 1, "opened twice at once"
    usb.hangs = False
    next_frame(camera)
    assert [capture.isOpened() for capture in usb.instances] == [False, True]
    camera.close()


def test_two_hundred_switchings_at_random_moments_leak_nothing(usb: type[VideoCapture]) -> None:
    usb.opening_takes = 0.002
    camera = Camera("/dev/video9", open_quickly, give_up=LONG, hang=LONG)
    for number in range(200):
        camera.open()
        if number % 3:
            time.sleep(number % 7 / 1000)
        else:
            next_frame(camera)
        camera.close(LONG)
        assert camera.status == "disabled"
        assert not any(capture.isOpened() for capture in usb.instances)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]
