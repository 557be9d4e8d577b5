from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import cv2
import pytest

from fer_edge.errors import SourceError
from fer_edge_device.capture import factory, v4l2
from fer_edge_device.capture.factory import open_source
from fer_edge_device.capture.supervisor import LiveSource
from fer_edge_device.capture.v4l2 import VideoNode
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import next_frame

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.capture.base import FrameSource
    from tests.device.fakes import Picamera2, VideoCapture


def opened(source: Path | str) -> FrameSource:
    return open_source(CameraSettings(source=str(source), width=320, height=240))


def test_auto_prefers_pi_camera(pi: type[Picamera2], usb: type[VideoCapture]) -> None:
    camera = opened("auto")
    assert camera.live
    assert camera.status == "online"
    camera.close()
    assert len(pi.instances) == 1
    assert not usb.instances


def test_waits_for_frame_only_after_libcamera_has_started(monkeypatch: pytest.MonkeyPatch, pi: type[Picamera2]) -> None:
    waits: list[str] = []

    def start_libcamera() -> list[dict[str, Any]]:
        waits.append("libcamera")
        return list(pi.modules)

    def wait(camera: LiveSource, seconds: float) -> None:
        assert seconds == factory._FIRST_FRAME_TIMEOUT  # not the short time that a video node gets
        waits.append("frame")
        wait_for_frame(camera, seconds)

    wait_for_frame = LiveSource.wait_for_frame
    monkeypatch.setattr(LiveSource, "wait_for_frame", wait)
    monkeypatch.setattr(pi, "global_camera_info", start_libcamera)
    for source in ("auto", "picamera2"):
        waits.clear()
        opened(source).close()
        assert waits.index("libcamera") < waits.index("frame")


def test_abandons_libcamera_that_hangs(
    monkeypatch: pytest.MonkeyPatch, pi: type[Picamera2], usb: type[VideoCapture]
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(pi, "global_camera_info", lambda: ended.wait() and [])
    monkeypatch.setattr(factory, "_LIBCAMERA_TIMEOUT", 0.1)
    monkeypatch.setattr(
        v4l2, "list_nodes", lambda: [VideoNode("/dev/video0", card="Webcam", bus="usb-0", captures=True)]
    )
    opened("auto").close()
    assert [capture.source for capture in usb.instances] == ["/dev/video0"]
    with pytest.raises(SourceError, match=r"no answer within 0\.1 s when looking for camera modules"):
        opened("picamera2")
    ended.set()


def test_auto_skips_nodes_without_images_and_prefers_stable_path(
    monkeypatch: pytest.MonkeyPatch, usb: type[VideoCapture]
) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    usb.dead_nodes = ("/dev/video0", "/dev/video2")
    nodes = [
        VideoNode("/dev/video0", card="bcm2835-isp", bus="platform:bcm2835-isp", captures=True),
        VideoNode("/dev/video1", card="bcm2835-codec", bus="platform:bcm2835-codec"),
        VideoNode("/dev/video2", problem="Permission denied"),
        VideoNode("/dev/video10", card="Webcam", bus="usb-0", captures=True, stable_path="/dev/v4l/by-id/usb-webcam"),
    ]
    monkeypatch.setattr(v4l2, "list_nodes", lambda: nodes)
    camera = opened("auto")
    camera.close()
    assert [capture.source for capture in usb.instances] == ["/dev/v4l/by-id/usb-webcam"]
    usb.instances.clear()
    usb.dead_nodes = ("/dev/video0", "/dev/v4l/by-id/usb-webcam")
    opened("auto").close()
    assert [capture.source for capture in usb.instances] == ["/dev/v4l/by-id/usb-webcam", "/dev/video0", "/dev/video2"]


def test_auto_without_camera_reports_what_it_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    monkeypatch.setattr(v4l2, "list_nodes", list)
    with pytest.raises(SourceError, match=r"no camera found \(picamera2 .*; there is no /dev/video\*\); connect one"):
        opened("auto")


@pytest.mark.parametrize(
    ("source", "which"),
    [("0", 0), ("/dev/video2", "/dev/video2"), ("/dev/v4l/by-id/usb-046d_C270", "/dev/v4l/by-id/usb-046d_C270")],
)
def test_usb_camera_is_set_to_small_fresh_mjpg_frames(usb: type[VideoCapture], source: str, which: int | str) -> None:
    camera = opened(source)
    assert next_frame(camera).gray.shape == (480, 640)
    camera.close()
    [capture] = usb.instances
    assert (capture.source, capture.api) == (which, cv2.CAP_V4L2)
    assert capture.get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"MJPG")
    assert capture.settings == {
        cv2.CAP_PROP_FRAME_WIDTH: 320,
        cv2.CAP_PROP_FRAME_HEIGHT: 240,
        cv2.CAP_PROP_BUFFERSIZE: 1,
        cv2.CAP_PROP_CONVERT_RGB: 0,
    }


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("opens", False, "cannot be opened"),
        ("frames_then_fails", 0, "gave no frame; is it unplugged or in use"),
        ("flat", True, r"gave a frame of shape \(1, 691200\), which is not an image"),
    ],
)
def test_unusable_camera_is_an_error_with_its_cause(
    usb: type[VideoCapture], attribute: str, value: object, message: str
) -> None:
    setattr(usb, attribute, value)
    with pytest.raises(SourceError, match=message) as error:
        opened("0")
    assert error.value.exit_status == 2


def test_takes_timeouts_from_settings(usb: type[VideoCapture]) -> None:
    camera = open_source(CameraSettings(source="0", stall_timeout_s=40, exit_after_s=900))
    camera.close()
    assert isinstance(camera, LiveSource)
    assert (camera._timeouts.stall, camera._timeouts.give_up, camera._timeouts.hang) == (40, 900, 120)
    assert len(usb.instances) == 1


def test_no_error_contains_the_password_of_a_stream(usb: type[VideoCapture]) -> None:
    usb.opens = False
    with pytest.raises(SourceError) as caught:
        opened("rtsp://me:se@cret@camera.local/stream")
    assert "rtsp://camera.local: cannot be opened" in str(caught.value)
    assert "cret" not in str(caught.value)
    for address in ("http://camera.local/video?user=me&password=secret", "rtsp:/me:secret@camera.local/stream"):
        with pytest.raises(SourceError) as caught:
            opened(address)
        assert "camera.local" in str(caught.value)
        assert "secret" not in str(caught.value)


def test_rejects_invalid_sources(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no source 'nowhere.mp4': use auto"):
        opened("nowhere.mp4")
    with pytest.raises(SourceError, match="no source 'picamera2:x'"):
        opened("picamera2:x")
    with pytest.raises(SourceError, match="no images in this folder"):
        opened(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match="1 image in this folder, but none can be read"):
        opened(tmp_path).read()
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(SourceError, match="not a video that FFmpeg can read"):
        opened(tmp_path / "text.mp4")
