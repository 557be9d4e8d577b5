"""Test that a runner asks for shrunk frames only if its smallest face is relative to them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge_device.app import App, events
from fer_edge_device.config.settings import CameraSettings, Config, EventsSettings, FacesSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.device.fakes import Hardware


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    threads = cv2.getNumThreads()
    yield
    cv2.setNumThreads(threads)


def full_hd(min_face: int = 0, width: int = 1920) -> Config:
    return Config(
        camera=CameraSettings(source="/dev/video9", width=width, height=1080, idle_fps=60, fps=60),
        faces=FacesSettings(min_face=min_face),
        events=EventsSettings(min_hits=1),
    )


@pytest.mark.parametrize("min_face", [0, 120])
def test_finds_the_same_faces_in_shrunk_frames(usb: Hardware, min_face: int) -> None:
    usb.size, usb.interval = (1920, 1080), 0.03
    stream = events(full_hd(min_face))
    event = next(stream)
    stream.close()
    assert event.box[:2] == pytest.approx((0.11, 0.2), abs=0.06)
    assert event.box[2:] == pytest.approx((0.16, 0.21), abs=0.05)


@pytest.mark.parametrize(("width", "kept"), [(1920, True), (1280, False)])
def test_smallest_face_stays_until_a_restart_if_frames_may_be_shrunk(
    caplog: pytest.LogCaptureFixture,
    width: int,
    kept: bool,  # noqa: FBT001
) -> None:
    caplog.set_level(logging.INFO)
    app = App(full_hd(width=width), version="0", read_config=lambda: full_hd(200, width))
    app._reload()
    for sink in app._sinks:
        sink.close(0.1)
    assert ("faces.min_face: this change takes effect after a restart" in caplog.text) == kept
    assert "configuration reloaded" in caplog.text


def test_runner_uses_one_thread_of_opencv_and_the_library_leaves_them_alone(usb: Hardware) -> None:
    cv2.setNumThreads(2)
    stream = events(full_hd())
    usb.interval = 0.03
    next(stream)
    stream.close()
    assert cv2.getNumThreads() == 2
    app = App(full_hd(), version="0")
    for sink in app._sinks:
        sink.close(0.1)
    assert cv2.getNumThreads() == 1
