"""Test the camera module with the real picamera2 and libcamera, whose virtual camera shows three faces."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.device import fakes
from tests.device.brokers import Mosquitto
from tests.system.containers import wait_for
from tests.system.picamera2 import observations
from tests.system.picamera2.conftest import LONG, Node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.system.picamera2.conftest import VirtualCamera

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("picamera2")]


SOON = 10.0  # seconds; it takes about one on a machine that has time


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


def test_lists_camera(camera: VirtualCamera) -> None:
    lines = camera.fer_edge("cameras").splitlines()
    assert lines == ["picamera2  Virtual Face Camera [picamera2]  (auto tries this first)"]


def test_doctor_sees_frames_of_the_size_that_camera_has(camera: VirtualCamera) -> None:
    path = camera.write_config(width=1280, height=720)
    report = camera.fer_edge("doctor", "--config", path)
    assert "ok       picamera2    can be imported, with libcamera" in report
    assert "ok       camera       gives 640x480 frames" in report


def test_missing_second_module_is_a_mistake_of_the_user(camera: VirtualCamera) -> None:
    report = camera.fer_edge("run", "--source", "picamera2:1", status=2)
    assert "picamera2: 1 camera module found, but number 1 is wanted" in report


def test_finds_three_faces(camera: VirtualCamera) -> None:
    node = Node(camera)
    for _ in range(3):
        assert node.next_message("event")["payload"]["event_type"] == "new"
    status, seconds = node.end()
    assert status == 0
    assert seconds < SOON
    assert not [line for line in node.log if "INFO" in line or "\x1b" in line], "libcamera's log is not the user's"


def test_settings_that_camera_lacks_are_ignored(camera: VirtualCamera) -> None:
    node = Node(camera, autofocus="off", lens_position=2.0, exposure_time_us=9000, gain=2.0)
    node.next_message("event")
    node.end()
    log = "".join(node.log)
    assert "this camera has a fixed lens; camera.autofocus and camera.lens_position have no effect" in log
    assert "this camera has no control ExposureTime; camera.exposure_time_us has no effect" in log
    assert "this camera has no control AnalogueGain; camera.gain has no effect" in log


@pytest.mark.parametrize("fault", ["lose-frames", "hang-frames", "break-memory"])
def test_camera_is_used_again_after_fault(camera: VirtualCamera, fault: str) -> None:
    node = Node(camera, stall_timeout_s=1, exit_after_s=600)
    node.wait_for_status("online")
    camera.begin(fault)
    node.wait_for_status("stalled")
    camera.end(fault)
    node.wait_for_status("online")
    assert node.end()[0] == 0
    assert "Traceback" not in "".join(node.log)


@pytest.mark.parametrize("fault", ["lose-frames", "hang-frames", "break-memory"])
def test_gives_up_when_fault_lasts(camera: VirtualCamera, fault: str) -> None:
    node = Node(camera, stall_timeout_s=1, exit_after_s=6)
    node.wait_for_status("online")
    camera.begin(fault)
    node.wait_for_status("stalled")
    assert node.wait() == 1
    assert "gave no frame for" in node.log[-1]


def test_ends_soon_while_frames_hang(camera: VirtualCamera) -> None:
    node = Node(camera, exit_after_s=600)
    node.wait_for_status("online")
    camera.begin("hang-frames")
    camera.wait_for_hang("hang-frames")
    status, seconds = node.end()
    assert status == 0
    assert seconds < SOON


def test_camera_is_offline_while_enumeration_hangs(camera: VirtualCamera, broker: Mosquitto) -> None:
    camera.begin("hang-enumeration")
    node = Node(camera, broker=broker.port)
    camera.wait_for_hang("hang-enumeration")
    node.wait_for_status("offline")
    camera.end("hang-enumeration")
    node.wait_for_status("online")
    assert node.end()[0] == 0


def test_ends_soon_while_enumeration_hangs(camera: VirtualCamera, broker: Mosquitto) -> None:
    camera.begin("hang-enumeration")
    node = Node(camera, broker=broker.port)
    node.wait_for_status("offline")
    camera.wait_for_hang("hang-enumeration")
    status, seconds = node.end()
    assert status == 0
    assert seconds < SOON


def test_gives_up_when_enumeration_hangs(camera: VirtualCamera) -> None:
    camera.begin("hang-enumeration")
    node = Node(camera)
    assert node.wait() == 2
    assert "no answer within 45 s when looking for camera modules" in node.log[-1]


def test_nothing_is_left_after_kill(camera: VirtualCamera) -> None:
    node = Node(camera)
    node.wait_for_status("online")
    assert users_of(camera)
    node.end(signal.SIGKILL)
    wait_for(lambda: not users_of(camera))


def users_of(camera: VirtualCamera) -> list[int]:
    """Return the processes that have the test's folder mounted: all of its programs and their children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if str(camera.files) in path.read_text():
                found.append(int(path.parent.name))
        except OSError:  # the process has just ended
            continue
    return found


REOPEN = """
import json, os, sys, threading
from pathlib import Path
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.factory import make_source
from fer_edge_device.config.settings import CameraSettings

def children():
    return [int(n) for n in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]

def figures():
    kilobytes = int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
    return {"files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count(), "children": len(children()),
            "memory_mb": kilobytes / 1024, "shared": len(os.listdir("/dev/shm"))}

source = make_source(CameraSettings(source="picamera2"))
measured = []
for number in range(int(sys.argv[1])):
    source.open()
    while True:
        try:
            frame = source.read()
            break
        except NoFrameYet:
            continue
    assert frame.gray.shape == (480, 640)
    source.close()
    assert source.status == "disabled"
    if number % 10 == 9:
        measured.append(figures())
        print(json.dumps(measured[-1]), flush=True)
"""


def test_hundred_openings_leak_nothing(camera: VirtualCamera) -> None:
    (camera.files / "reopen.py").write_text(REOPEN)
    process = camera.start("/srv/test/reopen.py", "100")
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    first, *_, last = (json.loads(line) for line in output.splitlines())
    assert last["memory_mb"] < first["memory_mb"] + 8
    assert {**last, "memory_mb": 0} == {**first, "memory_mb": 0}
    assert last["children"] == 0


RESTART = """
import os, sys, threading
from pathlib import Path
from fer_edge_device.capture.picamera2 import PiCamera
from fer_edge_device.config.settings import CameraSettings

camera = PiCamera(0, CameraSettings(source="picamera2"))
for number in range(100):
    camera.open()
    assert camera.grab()
    camera.stop()
    if number in {0, 99}:
        kilobytes = int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
        print(len(os.listdir("/proc/self/fd")), threading.active_count(), kilobytes)
camera.close()
"""


def test_hundred_restarts_leak_nothing(camera: VirtualCamera) -> None:
    (camera.files / "restart.py").write_text(RESTART)
    process = camera.start("/srv/test/restart.py")
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    first, last = ([int(word) for word in line.split()] for line in output.splitlines())
    assert last[:2] == first[:2]
    assert last[2] < first[2] + 4096


def test_fake_behaves_like_picamera2(
    camera: VirtualCamera, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.copy(observations.__file__, camera.files / "observe.py")
    process = camera.start("/srv/test/observe.py")
    output, errors = process.communicate(timeout=LONG)
    assert process.returncode == 0, errors
    folder = tmp_path_factory.mktemp("fake")
    monkeypatch.setenv(fakes.FOLDER, str(folder))
    hardware = fakes.Hardware(folder)
    hardware.modules = ({"Id": "Virtual0", "Model": "Virtual Face Camera", "Num": 0},)
    hardware.controls_of_camera = {"FrameDurationLimits": (33333, 33333, 33333)}
    assert json.loads(json.dumps(observations.observe(fakes.Picamera2))) == json.loads(output)
