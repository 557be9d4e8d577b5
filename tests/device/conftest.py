from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import pytest

from fer_edge_device.capture import process
from fer_edge_device.capture.base import NoFrameYet
from tests.device import fakes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fer_edge_device.capture.base import Frame, FrameSource
    from fer_edge_device.capture.camera import Camera

_INSTALL: Final = "from tests.device import fakes;fakes.install();"
LONG = 60.0  # seconds; far longer than anything takes, even on a loaded machine


@pytest.fixture
def usb(monkeypatch: pytest.MonkeyPatch, hardware: fakes.Hardware) -> fakes.Hardware:
    """Replace OpenCV's cameras and the machine's video nodes by fakes, in the camera's process and in this one."""
    monkeypatch.setattr(process, "_PROGRAM", process._PROGRAM.replace("import main;", f"import main;{_INSTALL}"))
    monkeypatch.setattr(cv2, "VideoCapture", fakes.VideoCapture)
    monkeypatch.delenv("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", raising=False)
    return hardware


@pytest.fixture
def pi(monkeypatch: pytest.MonkeyPatch, hardware: fakes.Hardware, tmp_path: Path) -> fakes.Hardware:
    """Install a fake picamera2 with one camera module."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "picamera2.py").write_text("from tests.device.fakes import Picamera2\n")
    (modules / "libcamera.py").write_text("from tests.device.fakes import controls\n")
    monkeypatch.setattr(sys, "path", [str(modules), *sys.path])
    folders = (modules, Path(__file__).parents[2], os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, filter(None, folders))))  # of other processes
    return hardware


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[fakes.Hardware]:
    """Return how the fakes behave. The processes that use them must have ended with the test."""
    folder = tmp_path / "hardware"
    folder.mkdir()
    monkeypatch.setenv(fakes.FOLDER, str(folder))
    yield fakes.Hardware(folder)
    until(lambda: not camera_processes())


def camera_processes(parent: int | None = None) -> list[int]:
    """Return the numbers of the camera processes that a process has started; by default, this one."""
    wanted, found = parent or os.getpid(), []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            started_by = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if started_by == wanted and b"capture.child" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
    return found


def newest_number(camera: Camera) -> int:
    """Return the number of the newest frame, as `Camera.read` counts."""
    assert camera._process
    return camera._process.newest_number + (camera._number_shift or 0)


def next_frame(camera: FrameSource) -> Frame:
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        with contextlib.suppress(NoFrameYet):
            frame = camera.read()
            assert frame is not None
            return frame
    raise AssertionError("no frame came")


def read_until_lost(camera: Camera) -> None:
    while True:
        with contextlib.suppress(NoFrameYet):
            camera.read()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
