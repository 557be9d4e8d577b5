"""Test V4L2 cameras with the real OpenCV, over the driver in ``v4l2_driver.c``."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from fer_edge import demo
from fer_edge.errors import SourceError
from fer_edge_device.capture.factory import open_source
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import next_frame
from tests.device.fakes import as_sent

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

NODE = "/dev/video99"
LUMA = ("YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12")
OTHERS = ("BGR3", "RGB3", "AR24", "XR24", "GREY", "Y10 ", "Y12 ", "Y16 ", "Y16\xa0")


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("the driver is written in C; run: sudo apt install gcc libc6-dev")
    library = tmp_path_factory.mktemp("driver") / "v4l2_driver.so"
    flags = ("-O1", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror")
    subprocess.run(["gcc", *flags, "-o", library, Path(__file__).with_name("v4l2_driver.c")], check=True)  # noqa: S607
    return library


@pytest.fixture
def plug(driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, npt.NDArray[np.uint8]], None]:
    """Return a function that plugs a camera in, which sends an image in a format."""

    def plug(pixel_format: str, frame: cv2.typing.MatLike) -> None:
        (tmp_path / "frame").write_bytes(frame.tobytes())
        monkeypatch.setenv("LD_PRELOAD", str(driver))
        monkeypatch.setenv("V4L2_FORMAT", str(int.from_bytes(pixel_format.encode("latin-1"), "little")))
        monkeypatch.setenv("V4L2_WIDTH", "640")
        monkeypatch.setenv("V4L2_HEIGHT", "480")
        monkeypatch.setenv("V4L2_FRAME", str(tmp_path / "frame"))

    return plug


@pytest.fixture(scope="module")
def colourful() -> cv2.typing.MatLike:
    """Return an image whose channels differ: a mistaken order changes its grey."""
    gray = demo.frame(30)
    return cv2.merge((gray, gray // 2 + 60, 255 - gray))


def first_frame() -> npt.NDArray[np.int64]:
    source = open_source(CameraSettings(source=NODE))
    gray = next_frame(source).gray.astype(int)
    source.close()
    return gray


@pytest.mark.parametrize("pixel_format", [*LUMA, *OTHERS])
def test_frames_become_grey_exactly(
    plug: Callable[..., None], colourful: cv2.typing.MatLike, pixel_format: str
) -> None:
    plug(pixel_format, as_sent(colourful, pixel_format.rstrip(" ")))
    if pixel_format in LUMA:
        expected = cv2.cvtColor(colourful, cv2.COLOR_BGR2YUV_I420)[:480]
        assert np.abs(first_frame() - expected).max() <= 1  # OpenCV rounds packed luma differently
    else:
        assert np.array_equal(first_frame(), cv2.cvtColor(colourful, cv2.COLOR_BGR2GRAY))


def test_motion_jpeg_and_a_bare_sensor_become_grey(plug: Callable[..., None], colourful: cv2.typing.MatLike) -> None:
    expected = cv2.cvtColor(colourful, cv2.COLOR_BGR2GRAY).astype(int)
    plug("MJPG", as_sent(colourful, "MJPG"))
    assert np.abs(first_frame() - expected).mean() < 1
    mosaic = colourful[..., 1].copy()  # green, and in each second row a blue, in each other row a red pixel
    mosaic[::2, 1::2], mosaic[1::2, ::2] = colourful[::2, 1::2, 0], colourful[1::2, ::2, 2]
    plug("GBRG", mosaic)
    assert np.abs(first_frame() - expected).mean() < 1


def test_format_that_opencv_does_not_know_is_named(plug: Callable[..., None]) -> None:
    plug("H264", np.zeros(1000, np.uint8))
    with pytest.raises(SourceError, match=rf"^{NODE}: cannot be opened; fer-edge reads none of its formats \(H264\); "):
        open_source(CameraSettings(source=NODE))
