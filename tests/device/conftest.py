from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import cv2
import pytest

from tests.device import fakes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def usb(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[fakes.VideoCapture]]:
    """A USB camera in the place of OpenCV's; its class attributes say how it behaves."""

    class Usb(fakes.VideoCapture):
        made = []  # noqa: RUF012 - this test's own

    monkeypatch.setenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "10")
    monkeypatch.setattr(cv2, "VideoCapture", Usb)
    yield Usb
    Usb.hangs = Usb.opening_hangs = False
    end = time.monotonic() + 30
    while camera_threads():
        assert time.monotonic() < end, "a thread of the camera's is left"
        time.sleep(0.01)


def camera_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "camera"]
