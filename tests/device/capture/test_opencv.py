from __future__ import annotations

import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from fer_edge import demo
from fer_edge.errors import SourceError
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.camera import Camera
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.factory import open_source
from fer_edge_device.capture.opencv import NetworkStream
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import LONG, newest_number, next_frame, until
from tests.device.servers import PASSWORD, USER, Http, NetworkCamera, Rtsp, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = Timeouts(stall=1.5, give_up=60, hang=LONG, min_delay=0.02, max_delay=0.2)


@contextlib.contextmanager
def stream(address: str, timeouts: Timeouts = QUICK) -> Iterator[Camera]:
    camera = Camera(CameraSettings(source=address, stall_timeout_s=timeouts.stall), timeouts, wait=True)
    try:
        camera.open()
        yield camera
    finally:
        camera.close()


@pytest.fixture(params=["http", "rtsp"])
def camera_and_address(request: pytest.FixtureRequest) -> Iterator[tuple[NetworkCamera, str]]:
    with serving(Http if request.param == "http" else Rtsp) as server:
        yield server, f"{request.param}://127.0.0.1:{server.port}/video"


def test_reopens_stream_after_hang_and_after_disconnect(
    camera_and_address: tuple[NetworkCamera, str],
) -> None:
    server, address = camera_and_address
    with stream(address) as camera:
        frame = next_frame(camera)
        assert frame.gray.shape == (480, 640)
        assert min(np.abs(frame.gray.astype(int) - demo.frame(number)).mean() for number in range(0, 60, 4)) < 3
        assert camera.status == "online"
        calls = server.calls
        server.mood = "hangs"
        until(lambda: camera.status == "stalled")
        until(lambda: server.calls > calls)
        began = time.monotonic()
        with contextlib.suppress(NoFrameYet):
            camera.read()  # does not wait for an opening that hangs
        assert time.monotonic() - began < 5
        server.mood = "is gone"
        calls = server.calls
        until(lambda: server.calls >= calls + 2)
        server.mood = "plays"
        assert next_frame(camera).number > frame.number
        assert camera.status == "online"
    assert all("TCP" in transport for transport in server.transports)


def test_truncated_image_costs_only_that_image() -> None:
    with serving(Http) as server:
        server.images[::2] = [image[: len(image) // 2] for image in server.images[::2]]
        with stream(f"http://127.0.0.1:{server.port}/video") as camera:
            for _ in range(8):
                next_frame(camera)
        assert server.calls == 1


def test_drops_and_counts_frames_that_are_not_read(camera_and_address: tuple[NetworkCamera, str]) -> None:
    server, address = camera_and_address
    with stream(address) as camera:
        first = next_frame(camera)
        calls = server.calls
        until(lambda: newest_number(camera) > first.number + 10)
        assert next_frame(camera).number > first.number + 10
        assert server.calls == calls


def test_reopening_streams_leaks_no_descriptor_thread_or_memory() -> None:
    measured = []
    with serving(Http) as server:
        server.max_frames = 3
        timeouts = replace(QUICK, min_delay=0.001, max_delay=0.002)
        with stream(f"http://127.0.0.1:{server.port}/", timeouts) as camera:
            assert camera._process
            folder = Path("/proc", str(camera._process.number))
            for calls in (40, 80):  # memory of the allocator grows at first
                while server.calls < calls:
                    with contextlib.suppress(NoFrameYet):
                        camera.read()
                entries = [len(list((folder / name).iterdir())) for name in ("fd", "task")]
                measured.append((*entries, int((folder / "statm").read_text().split()[1]) * 4096 / 1e6))
    before, after = measured
    assert abs(after[0] - before[0]) <= 3  # at that moment, a connection may exist or not
    assert after[1] == before[1]
    assert after[2] - before[2] < 10


def test_uses_login_and_never_shows_a_wrong_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(Http) as server:
        host = f"127.0.0.1:{server.port}"
        open_source(CameraSettings(source=f"http://{USER}:{PASSWORD}@{host}/locked")).close()
        with pytest.raises(SourceError, match="are address and password right") as caught:
            open_source(CameraSettings(source=f"http://{USER}:pass-wrong@{host}/locked"))
        assert f"http://{host}: cannot be opened" in str(caught.value)
    assert "pass-" not in str(caught.value) + caplog.text


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (None, ["fflags;nobuffer", "flags;low_delay", "rtsp_transport;tcp"]),
        ("rtsp_transport;udp|max_delay;0", ["fflags;nobuffer", "flags;low_delay", "max_delay;0", "rtsp_transport;udp"]),
    ],
)
def test_ffmpeg_options_are_those_of_a_stream_only_while_it_is_opened(
    monkeypatch: pytest.MonkeyPatch, own: str | None, expected: list[str]
) -> None:
    """Videos that the same process reads would lose their first frames; what the user has set goes first."""
    name = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
    monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv(name, own)
    seen = []
    capture = cv2.VideoCapture()

    def open_nothing(*_: object) -> cv2.VideoCapture:
        seen.append(sorted(os.environ[name].split("|")))
        return capture

    monkeypatch.setattr(cv2, "VideoCapture", open_nothing)
    for _ in range(2):
        with pytest.raises(SourceError, match="cannot be opened"):
            NetworkStream("rtsp://camera.local/", 5.0).open()
        assert os.environ.get(name) == own
    assert seen == [expected, expected]
