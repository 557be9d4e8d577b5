from __future__ import annotations

import contextlib
import sys
import threading
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge_device.capture.base import NoFrameYet
from tests.device import fakes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fer_edge_device.capture.base import Frame, FrameSource

LONG = 30.0  # seconds; far longer than anything takes, even on a loaded machine


@pytest.fixture
def usb(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[fakes.VideoCapture]]:
    """Replace OpenCV's cameras by a fake; its class attributes set how it behaves."""

    class Usb(fakes.VideoCapture):
        instances = []  # noqa: RUF012 - for this test alone

    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "10")
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "")
    monkeypatch.setattr(cv2, "VideoCapture", Usb)
    yield Usb
    Usb.hangs = Usb.opening_hangs = False
    until(lambda: not camera_threads())


@pytest.fixture
def pi(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[fakes.Picamera2]]:
    """Install a fake picamera2 with one camera module; its class attributes set how it behaves."""

    class Pi(fakes.Picamera2):
        instances = []  # noqa: RUF012 - for this test alone

    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=Pi))
    monkeypatch.setitem(sys.modules, "libcamera", fakes.libcamera)
    yield Pi
    Pi.stop_hangs = False
    until(lambda: not camera_threads())


def camera_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "camera"]


def next_frame(camera: FrameSource) -> Frame:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with contextlib.suppress(NoFrameYet):
            frame = camera.read()
            assert frame is not None
            return frame
    raise AssertionError("no frame came")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
