"""Test camera modules in the camera's process, with a fake of picamera2 that hangs as the real one does."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Literal

import cv2
import pytest

from fer_edge import demo
from fer_edge.errors import SourceError, SourceLostError
from fer_edge_device.capture.camera import Camera
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.factory import open_source
from fer_edge_device.capture.picamera2 import driver_reason
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import LONG, camera_processes, newest_number, next_frame, read_until_lost, until
from tests.device.fakes import FIXED, MODULES, AfModeEnum, AfTriggerEnum

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.device.fakes import Hardware

MODULE = CameraSettings(source="picamera2")
QUICK = Timeouts(stall=0.3, give_up=60, hang=LONG, min_delay=0.01, max_delay=0.02)


@contextlib.contextmanager
def module(timeouts: Timeouts) -> Iterator[Camera]:
    camera = Camera(MODULE, timeouts, wait=True)
    try:
        camera.open()
        yield camera
    finally:
        camera.close()


def test_gives_luma_plane_without_padding(pi: Hardware) -> None:
    camera = open_source(CameraSettings(source="picamera2", width=1601, height=900))
    frame = next_frame(camera)
    gray = frame.gray.copy()
    camera.close()
    assert gray.shape == (900, 1600)
    assert any((gray == cv2.resize(demo.frame(n), (1600, 900))).all() for n in range(120))
    assert abs(frame.time + frame.epoch - time.time()) < LONG
    [picamera2] = pi.instances
    assert not picamera2.is_open


def test_asks_for_small_buffers_alone(pi: Hardware) -> None:
    camera = open_source(MODULE)
    config = pi.instances[0].config
    camera.close()
    assert config["raw"] is None
    for stream in ("main", "lores"):
        assert (config[stream]["format"], config[stream]["size"]) == ("YUV420", [640, 480])


@pytest.mark.parametrize("frame_format", ["YUV420", "NV12"])
def test_reads_every_format_that_begins_with_luma(pi: Hardware, frame_format: str) -> None:
    pi.frame_format = frame_format
    camera = open_source(MODULE)
    gray = next_frame(camera).gray.copy()
    camera.close()
    assert any((gray == demo.frame(n)).all() for n in range(120))


def test_rejects_a_format_without_luma(pi: Hardware) -> None:
    pi.frame_format = "RGB888"
    with pytest.raises(SourceError, match="gives frames as RGB888, but not as YUV420"):
        open_source(MODULE)


def test_copies_only_frames_that_are_read_and_releases_all(pi: Hardware) -> None:
    camera = open_source(MODULE)
    assert isinstance(camera, Camera)
    next_frame(camera)
    until(lambda: newest_number(camera) > 10)
    next_frame(camera)
    camera.close()
    [picamera2] = pi.instances
    assert picamera2.copied == 3  # the first to see what it gives
    assert picamera2.requests_out == 0


@pytest.mark.parametrize(
    ("autofocus", "expected"),
    [
        ("continuous", {"AfMode": AfModeEnum.Continuous}),
        ("once", {"AfMode": AfModeEnum.Auto, "AfTrigger": AfTriggerEnum.Start}),
        ("off", {"AfMode": AfModeEnum.Manual, "LensPosition": 2.0}),
    ],
)
def test_sets_focus(pi: Hardware, autofocus: Literal["continuous", "once", "off"], expected: dict[str, object]) -> None:
    open_source(CameraSettings(source="picamera2", autofocus=autofocus, lens_position=2.0)).close()
    controls = pi.instances[0].controls_given
    assert {name: controls[name] for name in controls if name in {"AfMode", "AfTrigger", "LensPosition"}} == expected


def test_long_exposure_lengthens_frames(pi: Hardware) -> None:
    open_source(CameraSettings(source="picamera2", exposure_time_us=100_000, gain=4.0)).close()
    controls = pi.instances[0].controls_given
    assert (controls["ExposureTime"], controls["AnalogueGain"]) == (100_000, 4.0)
    assert controls["FrameDurationLimits"] == [100_000, 100_000]


def test_warns_of_missing_controls(pi: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    pi.controls_of_camera = {"FrameDurationLimits": FIXED["FrameDurationLimits"]}
    open_source(
        CameraSettings(source="picamera2", autofocus="off", lens_position=2.0, exposure_time_us=9000, gain=2.0)
    ).close()
    assert [record.getMessage() for record in caplog.records] == [
        "picamera2: this camera has a fixed lens; camera.autofocus and camera.lens_position have no effect",
        "picamera2: this camera has no control ExposureTime; camera.exposure_time_us has no effect",
        "picamera2: this camera has no control AnalogueGain; camera.gain has no effect",
    ]
    assert {record.name for record in caplog.records} == {"fer_edge_device.capture.picamera2"}


def test_does_not_warn_of_fixed_lens_by_default(pi: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    pi.controls_of_camera = FIXED
    open_source(MODULE).close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "AfMode" not in pi.instances[0].controls_given


def test_restarts_same_camera_after_stall(pi: Hardware) -> None:
    with module(QUICK) as camera:
        before = next_frame(camera)
        pi.gives_frames = False
        until(lambda: camera.status == "stalled" and pi.instances[0].starts > 1)
        pi.gives_frames = True
        after = next_frame(camera)
        assert after.number > before.number
        assert camera.status == "online"
    assert pi.instances[0].starts > 1
    assert pi.instances[-1].requests_out == 0


def test_opens_new_camera_after_long_stall_and_when_the_event_loop_has_failed(pi: Hardware) -> None:
    with module(QUICK) as camera:
        next_frame(camera)
        pi.gives_frames = False
        until(lambda: bool(camera.status) and len(pi.instances) == 2)
        pi.gives_frames = True
        next_frame(camera)
        pi.loop_breaks = True
        starts = pi.instances[-1].starts
        until(lambda: bool(camera.status) and (len(pi.instances) > 2 or pi.instances[-1].starts > starts))
        pi.loop_breaks = False
        next_frame(camera)
    assert not any(camera.is_open for camera in pi.instances)
    assert len({camera.process for camera in pi.instances}) == 1, "stop and close must not wait for ever"


@pytest.mark.parametrize("hanging", ["frame_hangs", "stop_hangs"])
def test_kills_a_process_in_which_libcamera_hangs(pi: Hardware, hanging: str) -> None:
    with module(Timeouts(stall=0.3, give_up=60, hang=3.0, min_delay=0.01, max_delay=0.02)) as camera:
        last = next_frame(camera)
        pi.gives_frames = False
        setattr(pi, hanging, True)
        [process] = camera_processes()
        until(lambda: camera.status == "stalled" and process not in camera_processes())
        setattr(pi, hanging, False)
        pi.gives_frames = True
        assert next_frame(camera).number > last.number
        assert camera.status == "online"
        assert not pi.instances[0].is_open


def test_a_camera_that_hangs_when_it_is_stopped_is_closed_all_the_same(pi: Hardware) -> None:
    camera = open_source(MODULE)
    pi.stop_hangs = True
    start = time.monotonic()
    camera.close()
    assert time.monotonic() - start < LONG / 3
    assert camera.status == "disabled"
    assert not pi.instances[0].is_open


def test_an_enumeration_that_hangs_ends_within_its_time(pi: Hardware) -> None:
    pi.enumeration_hangs = True
    message = r"picamera2: no answer within 2 s when looking for camera modules; check the cable"
    timeouts = Timeouts(stall=1, give_up=1.5, hang=3, enumeration=2)
    with pytest.raises(SourceError, match=message), module(timeouts):
        pass
    camera = Camera(MODULE, timeouts)
    camera.open()
    with pytest.raises(SourceLostError, match=rf"{message}; gave up after \d+ s"):
        read_until_lost(camera)
    camera.close()
    assert not camera_processes()


def test_closes_camera_that_cannot_be_configured(pi: Hardware) -> None:
    pi.fails_to_configure = True
    with pytest.raises(SourceError, match="Failed to configure camera"):
        open_source(MODULE)
    assert not pi.instances[0].is_open


def test_opens_second_module_and_rejects_missing_third(pi: Hardware) -> None:
    second = {"Model": "imx219", "Id": "/base/soc/i2c0mux/i2c@0/imx219@10", "Num": 2}
    pi.modules = (MODULES[0], second, MODULES[1])
    open_source(CameraSettings(source="picamera2:1")).close()
    assert pi.instances[0].module == second
    with pytest.raises(SourceError, match="picamera2: 2 camera modules found, but number 2 is wanted"):
        open_source(CameraSettings(source="picamera2:2"))


def test_missing_camera_is_an_error_with_advice(pi: Hardware) -> None:
    pi.modules = MODULES[1:]  # a USB camera is not a module
    with pytest.raises(SourceError, match=r"0 camera modules found, but number 0 is wanted .*; is it connected"):
        open_source(MODULE)
    assert not pi.instances


def test_missing_package_is_an_error_with_advice() -> None:
    with pytest.raises(SourceError, match=r"sudo apt install python3-picamera2.*--system-site-packages"):
        open_source(MODULE)


def test_camera_in_use_is_an_error_with_libcameras_reason(pi: Hardware) -> None:
    pi.in_use = True
    with pytest.raises(SourceError) as caught:
        open_source(MODULE)
    assert str(caught.value) == (
        "picamera2: Failed to acquire camera: Device or resource busy; is the camera connected, and no other program"
        " using it?"
    )


def test_gives_the_first_of_several_reasons() -> None:
    where, what = RuntimeError("Camera __init__ sequence did not complete."), RuntimeError("Camera(s) not found")
    where.__cause__ = RuntimeError("Failed to initialize camera")
    where.__cause__.__cause__ = what
    assert driver_reason(where) == "Camera(s) not found"
    assert driver_reason(what) == "Camera(s) not found"


def test_rejects_picamera2_that_cannot_cancel_requests(pi: Hardware) -> None:
    pi.is_too_old = True
    with pytest.raises(SourceError, match=r"the installed picamera2 is too old.*sudo apt full-upgrade"):
        open_source(MODULE)
    assert not pi.instances[0].is_open


def test_picamera2_built_for_another_numpy_is_a_source_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(SourceError, match=r"numpy\.dtype size changed"):
        open_source(MODULE)
