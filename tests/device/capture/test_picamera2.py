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
def module(patience: Timeouts) -> Iterator[LiveSource]:
    camera = LiveSource("picamera2", lambda: PiCamera(0, MODULE), patience)
    try:
        yield camera
    finally:
        camera.close()


def test_the_pi_camera_gives_its_luma_plane_without_padding(pi: type[Picamera2]) -> None:
    camera = open_source(CameraSettings(source="picamera2", width=1601, height=900))
    frame = next_frame(camera)
    camera.close()
    assert frame.gray.shape == (900, 1600)
    number = round(frame.number)
    assert any((frame.gray == cv2.resize(demo.frame(n), (1600, 900))).all() for n in range(number, number + 5))
    assert abs(frame.time + frame.epoch - time.time()) < LONG
    [made] = pi.made
    assert made.closed


def test_only_frames_that_are_asked_for_are_copied_and_all_are_given_back(pi: type[Picamera2]) -> None:
    camera = open_source(MODULE)
    assert isinstance(camera, LiveSource)
    until(lambda: camera._number > 10)
    next_frame(camera)
    camera.close()
    [made] = pi.made
    assert made.copied == 2
    assert made.requests_out == 0


@pytest.mark.parametrize(
    ("autofocus", "expected"),
    [
        ("continuous", {"AfMode": AfModeEnum.Continuous}),
        ("once", {"AfMode": AfModeEnum.Auto, "AfTrigger": AfTriggerEnum.Start}),
        ("off", {"AfMode": AfModeEnum.Manual, "LensPosition": 2.0}),
    ],
)
def test_focus_is_set_as_asked(
    pi: type[Picamera2], autofocus: Literal["continuous", "once", "off"], expected: dict[str, object]
) -> None:
    open_source(CameraSettings(source="picamera2", autofocus=autofocus, lens_position=2.0)).close()
    given = pi.made[0].controls_given
    assert {name: given[name] for name in given if name in {"AfMode", "AfTrigger", "LensPosition"}} == expected


def test_a_long_exposure_gets_the_time_it_takes(pi: type[Picamera2]) -> None:
    open_source(CameraSettings(source="picamera2", exposure_time_us=100_000, gain=4.0)).close()
    given = pi.made[0].controls_given
    assert (given["ExposureTime"], given["AnalogueGain"]) == (100_000, 4.0)
    assert given["FrameDurationLimits"] == (100_000, 100_000)


def test_a_camera_without_the_controls_says_so_and_works(pi: type[Picamera2], caplog: pytest.LogCaptureFixture) -> None:
    pi.controls_of_camera = {"FrameDurationLimits": FIXED["FrameDurationLimits"]}
    open_source(
        CameraSettings(source="picamera2", autofocus="off", lens_position=2.0, exposure_time_us=9000, gain=2.0)
    ).close()
    assert [record.getMessage() for record in caplog.records] == [
        "picamera2: this camera's lens is fixed; camera.autofocus and camera.lens_position do nothing",
        "picamera2: this camera has no control ExposureTime; camera.exposure_time_us does nothing",
        "picamera2: this camera has no control AnalogueGain; camera.gain does nothing",
    ]


def test_the_default_focus_is_no_warning_for_a_camera_without_one(
    pi: type[Picamera2], caplog: pytest.LogCaptureFixture
) -> None:
    pi.controls_of_camera = FIXED
    open_source(MODULE).close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "AfMode" not in pi.made[0].controls_given


def test_a_stall_is_met_with_a_stop_and_a_start_of_the_same_camera(pi: type[Picamera2]) -> None:
    with module(Timeouts(stall=0.3, give_up=60, hang=LONG, shortest_delay=0.01)) as camera:
        before = next_frame(camera)
        pi.gives_frames = False
        until(lambda: camera.status == "stalled" and pi.made[0].starts > 1)
        pi.gives_frames = True
        after = next_frame(camera)
        assert after.number > before.number
        assert camera.status == "online"
    assert pi.made[0].starts > 1
    assert pi.made[-1].requests_out == 0


def test_a_stall_that_outlasts_a_new_start_and_an_error_are_met_with_a_new_camera(pi: type[Picamera2]) -> None:
    with module(Timeouts(stall=0.1, give_up=60, hang=LONG, shortest_delay=0.01, longest_delay=0.02)) as camera:
        next_frame(camera)
        pi.gives_frames = False
        until(lambda: len(pi.made) == 2)
        pi.gives_frames = True
        next_frame(camera)
        pi.breaks = True
        made = len(pi.made)
        until(lambda: len(pi.made) > made)
        pi.breaks = False
        next_frame(camera)
    assert all(made.closed for made in pi.made)


def test_a_camera_that_hangs_when_it_is_stopped_is_abandoned_until_it_comes_back(pi: type[Picamera2]) -> None:
    with module(Timeouts(stall=0.1, give_up=60, hang=0.3, shortest_delay=0.01, longest_delay=0.02)) as camera:
        next_frame(camera)
        pi.gives_frames, pi.stop_hangs = False, True
        while len(camera._hung) == 0:
            with contextlib.suppress(NoFrameYet):
                camera.read()
        pi.stop_hangs, pi.gives_frames = False, True
        next_frame(camera)
        assert camera.status == "online"
    assert len(pi.made) == 2


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


def test_a_camera_that_hangs_keeps_no_process_from_ending() -> None:
    # picamera2 closes what is open at exit, and waits for it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", HANGS_AT_EXIT], env=environment, timeout=60, check=False)
    assert done.returncode == 7


def test_a_pi_camera_that_cannot_be_configured_is_let_go(pi: type[Picamera2]) -> None:
    pi.fails_to_configure = True
    with pytest.raises(SourceError, match="Failed to configure camera"):
        open_source(MODULE)
    assert pi.made[0].closed


def test_the_second_of_two_modules_can_be_had_and_a_third_is_missing(pi: type[Picamera2]) -> None:
    usb, second = pi.modules[1], {"Model": "imx219", "Id": "/base/soc/i2c0mux/i2c@0/imx219@10", "Num": 2}
    pi.modules = (pi.modules[0], second, usb)
    open_source(CameraSettings(source="picamera2:1")).close()
    assert pi.made[0].module == second
    with pytest.raises(SourceError, match="picamera2: 2 camera modules found, and number 2 is wanted"):
        open_source(CameraSettings(source="picamera2:2"))


def test_a_pi_without_its_camera_or_its_package_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, pi: type[Picamera2]
) -> None:
    pi.modules = pi.modules[1:]  # a USB camera is no module
    with pytest.raises(SourceError, match="no camera modules found, and number 0 is wanted; is it connected"):
        open_source(MODULE)
    assert not pi.made
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceError, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        open_source(MODULE)


def test_a_camera_in_use_says_so(pi: type[Picamera2]) -> None:
    pi.in_use = True
    with pytest.raises(SourceError, match="no other program using it"):
        open_source(MODULE)


def test_a_picamera2_too_old_to_be_stopped_when_it_stalls_is_refused(
    pi: type[Picamera2], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("tests.device.fakes.Picamera2.cancel_all_and_flush")
    with pytest.raises(SourceError, match=r"picamera2 here is too old.*sudo apt full-upgrade"):
        open_source(MODULE)
    assert pi.made[0].closed


def test_a_picamera2_built_for_another_numpy_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"numpy\.dtype size changed"):
        open_source(MODULE)
