from __future__ import annotations

import ctypes
import errno
import json
import struct
from typing import TYPE_CHECKING, Any

import pytest

from fer_edge import cli
from fer_edge_device.capture import v4l2
from fer_edge_device.capture.camera_list import format_cameras
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.find_cameras import find_cameras
from fer_edge_device.capture.v4l2 import CameraMode, VideoNode
from tests.device.conftest import camera_processes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.device.fakes import Hardware

U32 = ctypes.c_uint32


class Capability(ctypes.Structure):
    """v4l2_capability as in linux/videodev2.h; likewise below."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", U32),
        ("capabilities", U32),
        ("device_caps", U32),
        ("reserved", U32 * 3),
    )


class FormatDescription(ctypes.Structure):
    _fields_ = (
        ("index", U32),
        ("type", U32),
        ("flags", U32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", U32),
        ("mbus_code", U32),
        ("reserved", U32 * 3),
    )


class Discrete(ctypes.Structure):
    _fields_ = (("width", U32), ("height", U32))


class Stepwise(ctypes.Structure):
    _fields_ = tuple((f"{what}_{side}", U32) for side in ("width", "height") for what in ("min", "max", "step"))


class Size(ctypes.Union):
    _fields_ = (("discrete", Discrete), ("stepwise", Stepwise))


class FrameSize(ctypes.Structure):
    _anonymous_ = ("size",)
    _fields_ = (("index", U32), ("pixel_format", U32), ("type", U32), ("size", Size), ("reserved", U32 * 2))


class Fraction(ctypes.Structure):
    _fields_ = (("numerator", U32), ("denominator", U32))


class StepwiseInterval(ctypes.Structure):
    _fields_ = (("min", Fraction), ("max", Fraction), ("step", Fraction))


class Interval(ctypes.Union):
    _fields_ = (("discrete", Fraction), ("stepwise", StepwiseInterval))


class FrameInterval(ctypes.Structure):
    _anonymous_ = ("interval",)
    _fields_ = (
        ("index", U32),
        ("pixel_format", U32),
        ("width", U32),
        ("height", U32),
        ("type", U32),
        ("interval", Interval),
        ("reserved", U32 * 2),
    )


CAPTURE, METADATA, CODEC, HAS_NODE_CAPABILITIES = 0x1, 0x800000, 0x8000, 0x80000000
WEBCAM = {
    "MJPG": {(1280, 720): [(1, 30), (1, 15)], (640, 480): [(1, 30)]},
    "YUYV": {(640, 480): [(1, 30), (2, 15)]},
}


class Kernel:
    """The driver's side of the ioctls, with its C structures."""

    def __init__(
        self,
        capabilities: int,
        node_capabilities: int,
        formats: Any = None,  # noqa: ANN401
        *,
        stepwise: bool = False,
    ) -> None:
        self._capabilities, self._node_capabilities = capabilities, node_capabilities
        self._formats, self._stepwise = formats or {}, stepwise

    def __call__(self, descriptor: int, request: int, data: bytearray) -> int:
        assert descriptor == 7
        answer = {
            0x80685600: self._querycap,
            0xC0405602: self._enum_fmt,
            0xC02C564A: self._enum_framesizes,
            0xC034564B: self._enum_frameintervals,
        }[request]
        try:
            answer(data)
        except IndexError as error:
            raise OSError(errno.EINVAL, "Invalid argument") from error
        return 0

    def _querycap(self, data: bytearray) -> None:
        answer = Capability.from_buffer(data)
        answer.driver, answer.card, answer.bus_info = b"uvcvideo", "HD Café Webcam".encode(), b"usb-0000:01:00.0-1.2"
        answer.capabilities, answer.device_caps = self._capabilities, self._node_capabilities

    def _enum_fmt(self, data: bytearray) -> None:
        query = FormatDescription.from_buffer(data)
        assert query.type == 1
        query.pixelformat = struct.unpack("=I", list(self._formats)[query.index].encode())[0]
        query.description = b"a name for people"

    def _enum_framesizes(self, data: bytearray) -> None:
        query = FrameSize.from_buffer(data)
        if self._stepwise:
            query.type = 3
            query.stepwise = Stepwise(32, 4096, 2, 16, 2160, 2)
            return
        query.type = 1
        query.discrete = Discrete(*list(self._formats[struct.pack("=I", query.pixel_format).decode()])[query.index])

    def _enum_frameintervals(self, data: bytearray) -> None:
        query = FrameInterval.from_buffer(data)
        if self._stepwise:
            query.type = 2
            query.stepwise = StepwiseInterval(Fraction(1, 60), Fraction(1, 1), Fraction(1, 1))
            return
        query.type = 1
        sizes = self._formats[struct.pack("=I", query.pixel_format).decode()]
        query.discrete = Fraction(*sizes[query.width, query.height][query.index])


def test_describes_webcam_and_its_modes() -> None:
    node = v4l2.describe(
        "/dev/video0", "/dev/v4l/by-id/cam", 7, Kernel(CAPTURE | METADATA | HAS_NODE_CAPABILITIES, CAPTURE, WEBCAM)
    )
    assert (node.card, node.driver, node.bus) == ("HD Café Webcam", "uvcvideo", "usb-0000:01:00.0-1.2")
    assert node.captures
    assert node.stable_path == "/dev/v4l/by-id/cam"
    assert node.modes == (
        CameraMode("MJPG", 1280, 720, (30.0, 15.0)),
        CameraMode("MJPG", 640, 480, (30.0,)),
        CameraMode("YUYV", 640, 480, (30.0, 7.5)),
    )


def test_describes_stepwise_sizes_by_their_range() -> None:
    node = v4l2.describe("/dev/video0", None, 7, Kernel(CAPTURE, 0, {"YUYV": None}, stepwise=True))
    assert node.modes == (CameraMode("YUYV", 4096, 2160, (60.0, 1.0), min_size=(32, 16)),)


def test_names_formats_by_their_letters_and_byte_order() -> None:
    codes = [int.from_bytes(letters, "little") for letters in (b"YUYV", b"Y16 ", b"Y16\xa0")]
    assert [v4l2.format_name(code) for code in codes] == ["YUYV", "Y16", "Y16-BE"]


@pytest.mark.parametrize("node_capabilities", [METADATA, CODEC])
def test_metadata_and_codec_nodes_do_not_capture(node_capabilities: int) -> None:
    node = v4l2.describe("/dev/video1", None, 7, Kernel(CAPTURE | METADATA | HAS_NODE_CAPABILITIES, node_capabilities))
    assert not node.captures
    assert node.modes == ()


def test_node_that_cannot_be_queried_has_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2, "_DEV", tmp_path)
    by_id = tmp_path / "by-id"
    by_id.mkdir()
    monkeypatch.setattr(v4l2, "_BY_ID", by_id)
    for number in (10, 2):
        (tmp_path / f"video{number}").touch()
    (by_id / "usb-cam-video-index0").symlink_to("../video10")
    second, tenth = v4l2.list_nodes()
    assert second == VideoNode(str(tmp_path / "video2"), problem="Inappropriate ioctl for device")
    assert tenth.stable_path == str(by_id / "usb-cam-video-index0")


def test_lists_cameras_in_the_order_of_auto(usb: Hardware, pi: Hardware) -> None:
    nodes = [
        VideoNode("/dev/video0", card="isp", driver="bcm2835-isp", bus="platform:isp", captures=True),
        VideoNode("/dev/video1", card="metadata"),
        VideoNode("/dev/video2", problem="Permission denied; join the group video"),
        VideoNode(
            "/dev/video3",
            card="Webcam",
            driver="uvcvideo",
            bus="usb-1",
            captures=True,
            modes=(CameraMode("MJPG", 640, 480, (30.0, 7.5)), CameraMode("YUYV", 64, 48, (), min_size=(32, 16))),
            stable_path="/dev/v4l/by-id/webcam",
        ),
    ]
    usb.nodes = nodes
    cameras = find_cameras()
    assert [(camera.source, camera.auto) for camera in cameras] == [
        ("picamera2", True),
        ("/dev/video3", False),
        ("/dev/video0", False),
        ("/dev/video2", False),
    ]
    assert format_cameras(cameras).splitlines() == [
        "picamera2  imx708 [picamera2]  (auto tries this first)",
        "  SRGGB10_CSI2P  1536x864  120.13 fps",
        "  SRGGB10_CSI2P  2304x1296  56.03 fps",
        "/dev/video3  Webcam [uvcvideo]",
        "  also /dev/v4l/by-id/webcam",
        "  MJPG  640x480  30, 7.5 fps",
        "  YUYV  32x16 to 64x48",
        "/dev/video0  isp [bcm2835-isp]",
        "/dev/video2  camera [unknown]",
        "  cannot be opened: Permission denied; join the group video",
    ]
    assert not any(module.is_open for module in pi.instances)


def test_lists_module_in_use_without_modes_and_says_why(usb: Hardware, pi: Hardware) -> None:
    pi.in_use = True
    [camera] = find_cameras()
    assert camera.modes == ()
    assert camera.problem == (
        "its modes cannot be read (Failed to acquire camera: Device or resource busy); is another program using it?"
    )
    assert not usb.instances[0].is_open


def test_lists_what_does_not_hang(usb: Hardware, pi: Hardware) -> None:
    usb.nodes = [
        VideoNode("/dev/video0", card="hangs"),
        VideoNode("/dev/video1", card="Webcam", driver="uvcvideo", captures=True),
    ]
    pi.enumeration_hangs = True
    module, node, webcam = find_cameras(Timeouts(stall=1, give_up=1, hang=5, enumeration=2))
    assert (module.source, module.problem) == (
        "picamera2",
        "no answer from its driver within 2 s; check the cable",
    )
    assert (node.source, node.problem) == ("/dev/video0", "no answer from its driver within 5 s; check the cable")
    assert webcam.name == "Webcam"
    assert not camera_processes()


def test_command_prints_text_or_json_and_succeeds_without_cameras(
    usb: Hardware, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> tuple[str, str]:
        assert cli.app(["cameras", *options], standalone_mode=False) is None
        output = capsys.readouterr()
        return output.out, output.err

    out, err = run("--json")
    assert json.loads(out) == []
    assert err.count("\n") == 1
    assert "no camera found: connect one" in err
    modes = (CameraMode("MJPG", 2, 1, (5.0,)), *[CameraMode("YUYV", 640, 480, (30.0,))] * 1000)
    usb.nodes = [VideoNode("/dev/video0", card="Webcam", driver="uvcvideo", captures=True, modes=modes)]
    assert run()[0].startswith("/dev/video0  Webcam [uvcvideo]  (auto tries this first)\n  MJPG  2x1  5 fps\n")
    [camera] = json.loads(run("--json")[0])
    assert camera["source"] == "/dev/video0"
    assert camera["modes"][0] == {"format": "MJPG", "width": 2, "height": 1, "fps": [5.0], "min_size": None}
    assert len(camera["modes"]) == 1001
    assert camera["auto"] is True
