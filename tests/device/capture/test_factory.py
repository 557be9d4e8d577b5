from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import pytest

from fer_edge.errors import SourceError
from fer_edge_device.capture.camera import Camera
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.factory import make_timeouts, open_source
from fer_edge_device.capture.v4l2 import CameraMode, VideoNode
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import next_frame

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.capture.base import FrameSource
    from tests.device.fakes import Hardware

WEBCAM = VideoNode("/dev/video0", card="Webcam", bus="usb-0", captures=True)


def opened(source: Path | str) -> FrameSource:
    return open_source(CameraSettings(source=str(source), width=320, height=240))


def sources(usb: Hardware) -> list[object]:
    return [capture.source for capture in usb.instances if hasattr(capture, "source")]


@pytest.mark.usefixtures("usb")
def test_auto_prefers_pi_camera(pi: Hardware) -> None:
    camera = opened("auto")
    assert camera.live
    assert camera.status == "online"
    camera.close()
    assert [module.module["Model"] for module in pi.instances] == ["imx708"]


def test_auto_goes_on_without_a_libcamera_that_hangs(pi: Hardware, usb: Hardware) -> None:
    pi.enumeration_hangs = True
    usb.nodes = [WEBCAM]
    camera = Camera(CameraSettings(), Timeouts(stall=5, give_up=60, hang=15, enumeration=3, trial=10), wait=True)
    camera.open()
    next_frame(camera)
    camera.close()
    assert sources(usb) == ["/dev/video0"]


def test_auto_goes_on_without_a_node_whose_driver_hangs(usb: Hardware) -> None:
    usb.nodes = [VideoNode("/dev/video3", card="hangs"), WEBCAM]
    opened("auto").close()
    assert sources(usb) == ["/dev/video0"]
    usb.opening_hangs, usb.nodes = True, [WEBCAM]
    with pytest.raises(SourceError, match=r"no camera found \(.*/dev/video0: gave no frame for 1 s; is it unplugged"):
        Camera(CameraSettings(), Timeouts(stall=5, give_up=60, hang=15, trial=1), wait=True).open()


def test_auto_skips_nodes_without_images_and_prefers_stable_path(usb: Hardware) -> None:
    usb.dead_nodes = ("/dev/video0", "/dev/video2")
    usb.nodes = [
        VideoNode("/dev/video0", card="bcm2835-isp", bus="platform:bcm2835-isp", captures=True),
        VideoNode("/dev/video1", card="bcm2835-codec", bus="platform:bcm2835-codec"),
        VideoNode("/dev/video2", problem="Permission denied"),
        VideoNode("/dev/video10", card="Webcam", bus="usb-0", captures=True, stable_path="/dev/v4l/by-id/usb-webcam"),
    ]
    opened("auto").close()
    assert sources(usb) == ["/dev/v4l/by-id/usb-webcam"]
    usb.dead_nodes = ("/dev/video0", "/dev/v4l/by-id/usb-webcam")
    opened("auto").close()
    assert sources(usb)[1:] == ["/dev/v4l/by-id/usb-webcam", "/dev/video0", "/dev/video2"]


@pytest.mark.usefixtures("usb")
def test_auto_without_camera_reports_what_it_tried() -> None:
    with pytest.raises(SourceError, match=r"no camera found \(picamera2 .*; there is no /dev/video\*\); connect one"):
        opened("auto")


@pytest.mark.parametrize(
    ("source", "which"),
    [("0", 0), ("/dev/video2", "/dev/video2"), ("/dev/v4l/by-id/usb-046d_C270", "/dev/v4l/by-id/usb-046d_C270")],
)
def test_usb_camera_is_set_to_small_fresh_mjpg_frames(usb: Hardware, source: str, which: int | str) -> None:
    camera = opened(source)
    assert next_frame(camera).gray.shape == (480, 640)
    camera.close()
    [capture] = usb.instances
    assert (capture.source, capture.api) == (which, cv2.CAP_V4L2)
    assert capture.format == "MJPG"
    assert capture.settings == {
        str(cv2.CAP_PROP_FRAME_WIDTH): 320,
        str(cv2.CAP_PROP_FRAME_HEIGHT): 240,
        str(cv2.CAP_PROP_BUFFERSIZE): 1,
        str(cv2.CAP_PROP_CONVERT_RGB): 0,
    }


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("opens", False, "cannot be opened"),
        ("frames_then_fails", 0, "gave no frame; is it unplugged or in use"),
    ],
)
def test_unusable_camera_is_an_error_with_its_cause(usb: Hardware, attribute: str, value: object, message: str) -> None:
    setattr(usb, attribute, value)
    with pytest.raises(SourceError, match=message) as error:
        opened("0")
    assert error.value.exit_status == 2


def test_format_that_nobody_converts_is_an_error_that_names_it(usb: Hardware) -> None:
    usb.formats, usb.flat = ("WXYZ",), True
    with pytest.raises(SourceError, match=r"^0 \(WXYZ\): gave a frame of shape \(1, 921600\), which is not an image$"):
        opened("0")


def test_camera_without_a_format_that_is_read_is_an_error_that_names_its_formats(usb: Hardware) -> None:
    usb.opens = False
    usb.nodes = [replace(WEBCAM, modes=(CameraMode("pRAA", 1640, 1232, ()), CameraMode("H264", 640, 480, (30.0,))))]
    for source in ("0", "/dev/video0"):
        with pytest.raises(SourceError, match=rf"^{source}: cannot be opened; .*none of its formats \(H264, pRAA\)"):
            opened(source)
    usb.nodes = [replace(WEBCAM, modes=(CameraMode("H264", 640, 480, ()), CameraMode("YUYV", 640, 480, (30.0,))))]
    with pytest.raises(SourceError, match=r"0: cannot be opened; (there is no /dev/video|is it connected)"):
        opened("0")


def test_takes_timeouts_from_settings() -> None:
    timeouts = make_timeouts(CameraSettings(source="0", stall_timeout_s=40, exit_after_s=900))
    assert (timeouts.stall, timeouts.give_up, timeouts.hang) == (40, 900, 120)


def test_no_error_contains_the_password_of_a_stream(usb: Hardware) -> None:
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
