from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Literal

import cv2
import pytest

from fer_edge import demo
from fer_edge.errors import SourceError
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.factory import open_source
from fer_edge_device.capture.picamera2 import PiCamera
from fer_edge_device.capture.supervisor import LiveSource, Timeouts
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import LONG, next_frame, until
from tests.device.fakes import FIXED, AfModeEnum, AfTriggerEnum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.device.fakes import Picamera2

MODULE = CameraSettings(source="picamera2")


@contextlib.contextmanager
def module(timeouts: Timeouts) -> Iterator[LiveSource]:
    camera = LiveSource("picamera2", lambda: PiCamera(0, MODULE), timeouts)
    try:
        yield camera
    finally:
        camera.close()


def test_gives_luma_plane_without_padding(pi: type[Picamera2]) -> None:
    camera = open_source(CameraSettings(source="picamera2", width=1601, height=900))
    frame = next_frame(camera)
    camera.close()
    assert frame.gray.shape == (900, 1600)
    number = round(frame.number)
    assert any((frame.gray == cv2.resize(demo.frame(n), (1600, 900))).all() for n in range(number, number + 5))
    assert abs(frame.time + frame.epoch - time.time()) < LONG
    [picamera2] = pi.instances
    assert picamera2.closed


def test_copies_only_frames_that_are_read_and_releases_all(pi: type[Picamera2]) -> None:
    camera = open_source(MODULE)
    assert isinstance(camera, LiveSource)
    until(lambda: camera._number > 10)
    next_frame(camera)
    camera.close()
    [picamera2] = pi.instances
    assert picamera2.copied == 2
    assert picamera2.requests_out == 0


@pytest.mark.parametrize(
    ("autofocus", "expected"),
    [
        ("continuous", {"AfMode": AfModeEnum.Continuous}),
        ("once", {"AfMode": AfModeEnum.Auto, "AfTrigger": AfTriggerEnum.Start}),
        ("off", {"AfMode": AfModeEnum.Manual, "LensPosition": 2.0}),
    ],
)
def test_sets_focus(
    pi: type[Picamera2], autofocus: Literal["continuous", "once", "off"], expected: dict[str, object]
) -> None:
    open_source(CameraSettings(source="picamera2", autofocus=autofocus, lens_position=2.0)).close()
    controls = pi.instances[0].controls_given
    assert {name: controls[name] for name in controls if name in {"AfMode", "AfTrigger", "LensPosition"}} == expected


def test_long_exposure_lengthens_frames(pi: type[Picamera2]) -> None:
    open_source(CameraSettings(source="picamera2", exposure_time_us=100_000, gain=4.0)).close()
    controls = pi.instances[0].controls_given
    assert (controls["ExposureTime"], controls["AnalogueGain"]) == (100_000, 4.0)
    assert controls["FrameDurationLimits"] == (100_000, 100_000)


def test_warns_of_missing_controls(pi: type[Picamera2], caplog: pytest.LogCaptureFixture) -> None:
    pi.controls_of_camera = {"FrameDurationLimits": FIXED["FrameDurationLimits"]}
    open_source(
        CameraSettings(source="picamera2", autofocus="off", lens_position=2.0, exposure_time_us=9000, gain=2.0)
    ).close()
    assert [record.getMessage() for record in caplog.records] == [
        "picamera2: this camera has a fixed lens; camera.autofocus and camera.lens_position have no effect",
        "picamera2: this camera has no control ExposureTime; camera.exposure_time_us has no effect",
        "picamera2: this camera has no control AnalogueGain; camera.gain has no effect",
    ]


def test_does_not_warn_of_fixed_lens_by_default(pi: type[Picamera2], caplog: pytest.LogCaptureFixture) -> None:
    pi.controls_of_camera = FIXED
    open_source(MODULE).close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "AfMode" not in pi.instances[0].controls_given


def test_restarts_same_camera_after_stall(pi: type[Picamera2]) -> None:
    with module(Timeouts(stall=0.3, give_up=60, hang=LONG, min_delay=0.01)) as camera:
        before = next_frame(camera)
        pi.gives_frames = False
        until(lambda: camera.status == "stalled" and pi.instances[0].starts > 1)
        pi.gives_frames = True
        after = next_frame(camera)
        assert after.number > before.number
        assert camera.status == "online"
    assert pi.instances[0].starts > 1
    assert pi.instances[-1].requests_out == 0


def test_opens_new_camera_after_long_stall_and_after_error(pi: type[Picamera2]) -> None:
    with module(Timeouts(stall=0.1, give_up=60, hang=LONG, min_delay=0.01, max_delay=0.02)) as camera:
        next_frame(camera)
        pi.gives_frames = False
        until(lambda: len(pi.instances) == 2)
        pi.gives_frames = True
        next_frame(camera)
        pi.breaks = True
        count = len(pi.instances)
        until(lambda: len(pi.instances) > count)
        pi.breaks = False
        next_frame(camera)
    assert all(camera.closed for camera in pi.instances)


def test_abandons_camera_that_hangs_on_stop(pi: type[Picamera2]) -> None:
    with module(Timeouts(stall=0.1, give_up=60, hang=0.3, min_delay=0.01, max_delay=0.02)) as camera:
        next_frame(camera)
        pi.gives_frames, pi.stop_hangs = False, True
        while len(camera._hung) == 0:
            with contextlib.suppress(NoFrameYet):
                camera.read()
        pi.stop_hangs, pi.gives_frames = False, True
        next_frame(camera)
        assert camera.status == "online"
    assert len(pi.instances) == 2


def test_stops_and_closes_camera_whose_event_loop_has_ended(pi: type[Picamera2]) -> None:
    camera = PiCamera(0, MODULE)
    camera.open()
    pi.breaks = True
    while camera.grab():
        pass
    camera.stop()
    pi.breaks = False
    camera.open()
    assert camera.grab()
    pi.breaks = True
    while camera.grab():
        pass
    camera.close()
    assert pi.instances[0].closed


HANGS_AT_EXIT = """
import sys
from types import SimpleNamespace
from tests.device import fakes
sys.modules["picamera2"], sys.modules["libcamera"] = fakes, fakes.libcamera
from fer_edge_device.capture.factory import open_source
from fer_edge_device.config.settings import CameraSettings
camera = open_source(CameraSettings(source="picamera2"))
fakes.Picamera2.stop_hangs = True
camera.close()
sys.exit(7)
"""


def test_hanging_camera_does_not_block_exit() -> None:
    # At exit, picamera2 closes what is open and waits for it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", HANGS_AT_EXIT], env=environment, timeout=60, check=False)
    assert result.returncode == 7


def test_closes_camera_that_cannot_be_configured(pi: type[Picamera2]) -> None:
    pi.fails_to_configure = True
    with pytest.raises(SourceError, match="Failed to configure camera"):
        open_source(MODULE)
    assert pi.instances[0].closed


def test_opens_second_module_and_rejects_missing_third(pi: type[Picamera2]) -> None:
    usb, second = pi.modules[1], {"Model": "imx219", "Id": "/base/soc/i2c0mux/i2c@0/imx219@10", "Num": 2}
    pi.modules = (pi.modules[0], second, usb)
    open_source(CameraSettings(source="picamera2:1")).close()
    assert pi.instances[0].module == second
    with pytest.raises(SourceError, match="picamera2: 2 camera modules found, but number 2 is wanted"):
        open_source(CameraSettings(source="picamera2:2"))


def test_missing_camera_or_package_is_an_error_with_advice(
    monkeypatch: pytest.MonkeyPatch, pi: type[Picamera2]
) -> None:
    pi.modules = pi.modules[1:]  # a USB camera is not a module
    with pytest.raises(SourceError, match=r"0 camera modules found, but number 0 is wanted .*; is it connected"):
        open_source(MODULE)
    assert not pi.instances
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceError, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        open_source(MODULE)


def test_camera_in_use_is_an_error_with_advice(pi: type[Picamera2]) -> None:
    pi.in_use = True
    with pytest.raises(SourceError, match=r"Device or resource busy; .* no other program using it"):
        open_source(MODULE)


def test_rejects_picamera2_that_cannot_cancel_requests(pi: type[Picamera2], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("tests.device.fakes.Picamera2.cancel_all_and_flush")
    with pytest.raises(SourceError, match=r"the installed picamera2 is too old.*sudo apt full-upgrade"):
        open_source(MODULE)
    assert pi.instances[0].closed


def test_picamera2_built_for_another_numpy_is_a_source_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"numpy\.dtype size changed"):
        open_source(MODULE)
