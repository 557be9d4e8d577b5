"""Test grey frames of USB cameras in the formats that they send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge_device.capture.opencv import V4l2Camera, reduction
from fer_edge_device.capture.pixel_formats import KNOWN, decode_frame
from tests.device.fakes import VideoCapture, as_sent

if TYPE_CHECKING:
    import numpy.typing as npt

    from tests.device.fakes import Hardware


def first_frame(width: int = 640, height: int = 480, *, may_shrink: bool = False) -> npt.NDArray[np.uint8] | None:
    camera = V4l2Camera("/dev/video9", width, height, 1.0, may_shrink=may_shrink)
    camera.open()
    assert camera.grab()
    gray = camera.retrieve()
    camera.close()
    return gray


def difference(gray: npt.NDArray[np.uint8] | None, expected: npt.NDArray[np.uint8]) -> float:
    assert gray is not None
    assert gray.dtype == np.uint8
    assert gray.shape == expected.shape
    assert gray.flags.c_contiguous
    return float(np.abs(gray.astype(int) - expected).mean())


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "formats", [("YUYV", "MJPG"), ("MJPG",), ("UYVY",), ("NV12",), ("BGR3",), ("RGB3",), ("XR24",), ("GREY",), ("Y16",)]
)
def test_gives_grey_frames_whatever_the_camera_sends(usb: Hardware, formats: tuple[str, ...], flat: bool) -> None:  # noqa: FBT001
    usb.formats, usb.flat = formats, flat
    expected, tolerance = demo.frame(0), 0.0
    if "MJPG" in formats:
        tolerance = 2.0
    elif formats[0] in {"UYVY", "NV12"}:  # a camera's luma has 219 levels: nothing else changes
        expected, tolerance = np.asarray(luma_of(cv2.cvtColor(expected, cv2.COLOR_GRAY2BGR)), np.uint8), 0.1
    assert difference(first_frame(), expected) <= tolerance
    [capture] = usb.instances
    assert capture.settings.get(str(cv2.CAP_PROP_CONVERT_RGB)) == 0


def test_leaves_formats_that_it_does_not_know_to_opencv(usb: Hardware) -> None:
    usb.formats, usb.flat = ("GBRG",), True
    assert difference(first_frame(), demo.frame(0)) <= 0.6
    [capture] = usb.instances
    assert str(cv2.CAP_PROP_CONVERT_RGB) not in capture.settings


def test_large_frames_are_shrunk_only_if_they_may_be(usb: Hardware) -> None:
    usb.size = (1920, 1080)
    expected = np.asarray(cv2.resize(demo.frame(0), (1920, 1080)), np.uint8)
    assert difference(first_frame(1920, 1080), expected) < 2
    half = cv2.resize(expected, (960, 540), interpolation=cv2.INTER_AREA)
    assert difference(first_frame(1920, 1080, may_shrink=True), np.asarray(half, np.uint8)) < 2
    # A small face is a sixteenth of what was asked for, even if the camera gives more.
    assert difference(first_frame(640, 480, may_shrink=True), expected) < 2


@pytest.mark.parametrize(("longer_side", "factor"), [(0, 1), (640, 1), (1280, 1), (1920, 2), (3840, 4), (7680, 8)])
def test_reduction_keeps_small_faces_large_enough(longer_side: int, factor: int) -> None:
    assert reduction(longer_side) == factor


class Damaging:
    """Damages what a camera sends."""

    def __init__(self, damage: str) -> None:
        self._damage = damage

    def __call__(self, data: cv2.typing.MatLike) -> npt.NDArray[np.uint8]:
        flat = np.asarray(data, np.uint8).reshape(1, -1)
        return {
            "empty": flat[:, :0],
            "cut": flat[:, : flat.size // 3],
            "text": np.array([list(b"<html>busy</html>")], np.uint8),
        }[self._damage]


@pytest.mark.parametrize("pixel_format", ["MJPG", "YUYV"])
@pytest.mark.parametrize("damage", ["empty", "cut", "text"])
def test_damaged_frame_is_no_frame_and_no_error(
    usb: Hardware, monkeypatch: pytest.MonkeyPatch, pixel_format: str, damage: str
) -> None:
    usb.formats = (pixel_format,)
    camera = V4l2Camera("/dev/video9", 640, 480, 1.0)
    camera.open()
    as_sent = VideoCapture.as_sent
    monkeypatch.setattr(VideoCapture, "as_sent", lambda capture, colour: Damaging(damage)(as_sent(capture, colour)))
    assert camera.grab()
    damaged = camera.retrieve()
    # Of a JPEG that ends early, OpenCV gives the rows that have come.
    assert damaged is None or (pixel_format, damage, damaged.shape) == ("MJPG", "cut", (480, 640))
    monkeypatch.setattr(VideoCapture, "as_sent", as_sent)
    assert camera.grab()
    assert camera.retrieve() is not None
    camera.close()


def luma_of(colour: cv2.typing.MatLike) -> cv2.typing.MatLike:
    return cv2.cvtColor(colour, cv2.COLOR_BGR2YUV_I420)[: len(colour)]


@pytest.fixture(scope="module")
def colourful() -> cv2.typing.MatLike:
    """Return an image whose channels differ: a mistaken order changes its grey."""
    gray = demo.frame(30)
    return cv2.merge((gray, gray // 2 + 60, 255 - gray))


@pytest.mark.parametrize("pixel_format", ["YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12"])
def test_luma_is_taken_as_it_is(colourful: cv2.typing.MatLike, pixel_format: str) -> None:
    data = np.asarray(as_sent(colourful, pixel_format), np.uint8)
    for shaped in (data, data.reshape(1, -1)):
        gray = decode_frame(shaped, pixel_format, 640, 480, 1)
        # OpenCV rounds the luma of packed and of planar formats differently.
        assert difference(gray, np.asarray(luma_of(colourful), np.uint8)) <= 0.5


@pytest.mark.parametrize("pixel_format", ["BGR3", "RGB3", "AR24", "XR24", "GREY", "Y10", "Y12", "Y16", "Y16\xa0"])
def test_colours_and_deep_grey_give_what_opencv_makes_of_them(
    usb: Hardware, colourful: cv2.typing.MatLike, pixel_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    usb.formats = (pixel_format,)
    monkeypatch.setattr(VideoCapture, "as_sent", lambda *_: as_sent(colourful, pixel_format))
    expected = np.asarray(cv2.cvtColor(colourful, cv2.COLOR_BGR2GRAY), np.uint8)
    assert difference(first_frame(), expected) == 0


@pytest.mark.parametrize("pixel_format", sorted(KNOWN))
def test_any_bytes_and_sizes_give_a_frame_or_none(pixel_format: str) -> None:
    rng = np.random.default_rng(1)
    for width, height in ((0, 0), (1, 1), (63, 47), (10**6, 10**6)):
        for size in (0, 1, 2, 1000, 6000):
            gray = decode_frame(rng.integers(0, 256, (1, size), np.uint8), pixel_format, width, height, 2)
            assert gray is None or gray.shape == (height, width)
