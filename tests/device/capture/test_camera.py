"""Test a camera in its process, from the runner's side: switched off and on, missing, failing, hanging and killed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from msgspec.structs import replace

from fer_edge import demo
from fer_edge.errors import SourceError, SourceLostError
from fer_edge.utils.system import resident_mb
from fer_edge_device.capture import camera as camera_module
from fer_edge_device.capture import process as process_module
from fer_edge_device.capture.base import NoFrameYet
from fer_edge_device.capture.camera import Camera
from fer_edge_device.capture.channel import Timeouts
from fer_edge_device.capture.process import CameraProcess
from fer_edge_device.config.settings import CameraSettings
from tests.device.conftest import LONG, camera_processes, newest_number, next_frame, read_until_lost, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fer_edge_device.messages import CameraStatus
    from tests.device.fakes import Hardware

SETTINGS = CameraSettings(source="/dev/video9")
QUICK = Timeouts(stall=0.5, give_up=LONG, hang=LONG, min_delay=0.01, max_delay=0.08, max_first_delay=0.08)
PATIENT = replace(QUICK, stall=LONG)  # opens nothing again only because a loaded machine gives no frame for a while


@contextlib.contextmanager
def opened(timeouts: Timeouts = QUICK, *, wait: bool = True) -> Iterator[Camera]:
    camera = Camera(SETTINGS, timeouts, wait=wait)
    try:
        camera.open()
        yield camera
    finally:
        camera.close()


def read_until_status(camera: Camera, status: CameraStatus) -> None:
    while camera.status != status:
        with contextlib.suppress(NoFrameYet):
            camera.read()


def gives_no_frame(camera: Camera) -> bool:
    try:
        camera.read()
    except NoFrameYet:
        return True
    return False


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    matches = (re.search(r"again in ([0-9.]+) s", record.getMessage()) for record in caplog.records)
    return [float(match[1]) for match in matches if match]


def test_opens_nothing_until_needed(usb: Hardware) -> None:
    camera = Camera(SETTINGS, QUICK)
    assert camera.status == "disabled"
    with pytest.raises(NoFrameYet):
        camera.read()
    assert not camera_processes()
    assert not usb.instances


def test_decodes_only_frames_that_are_read_and_counts_dropped_ones(usb: Hardware) -> None:
    with opened(PATIENT) as camera:
        first = next_frame(camera)
        until(lambda: newest_number(camera) > first.number + 10)
        then = next_frame(camera)
        assert then.number > first.number + 10
        assert then.dropped > 5
        assert abs(time.time() - then.time - then.epoch) < LONG
        assert then.time > first.time
    assert usb.instances[0].retrieved <= 3


@pytest.mark.usefixtures("usb")
def test_gives_whole_frames_that_stay_until_the_next_read_and_cannot_be_written() -> None:
    with opened(PATIENT) as camera:
        for _ in range(20):
            frame = next_frame(camera)
            before, number = frame.gray.copy(), newest_number(camera)
            until(lambda number=number: newest_number(camera) > number + 1)  # type: ignore[misc]
            assert (frame.gray == before).all()
        assert min(np.abs(before.astype(int) - demo.frame(n)).mean() for n in range(0, 120, 4)) < 3
        with pytest.raises(ValueError, match="read-only"):
            frame.gray[0, 0] = 0


def test_follows_changes_of_the_frame_size(usb: Hardware) -> None:
    usb.frames_then_fails = 20
    with opened(PATIENT, wait=False) as camera:
        for size in ((320, 240), (1280, 720), (640, 480)) * 2:
            usb.size = size
            while next_frame(camera).gray.shape[::-1] != size:
                pass


def test_drops_decoded_frame_that_has_grown_old(usb: Hardware) -> None:
    with opened(PATIENT) as camera:
        next_frame(camera)
        usb.interval = 0.3
        until(lambda: gives_no_frame(camera))
        usb.interval = 0.005
        number = newest_number(camera)
        until(lambda: newest_number(camera) > number + 10)
        assert next_frame(camera).number > number + 10


def test_closes_the_device_and_opens_it_again_without_a_gap_in_the_numbers(usb: Hardware) -> None:
    with opened(PATIENT, wait=False) as camera:
        last = None
        for opening in range(3):
            camera.open()
            camera.open()
            frame = next_frame(camera)
            assert last is None or (frame.number == last.number + 1 and frame.time > last.time)
            assert frame.dropped == 0, "nothing is missed while the camera is closed"
            last = next_frame(camera)
            camera.close()
            assert camera.status == "disabled"
            assert not camera_processes()
            assert [capture.is_open for capture in usb.instances] == [False] * (opening + 1)
            with pytest.raises(NoFrameYet):
                camera.read()
    assert len(usb.instances) == 3


def test_reopens_failed_camera_and_continues_frame_numbers(usb: Hardware) -> None:
    usb.frames_then_fails = 20
    with opened(wait=False) as camera:
        last = next_frame(camera)
        until(lambda: camera.status == "stalled")
        until(lambda: len(usb.instances) > 1)
        assert not usb.instances[0].is_open
        frame = next_frame(camera)
        assert frame.number > last.number
        assert frame.time > last.time
    assert len({capture.process for capture in usb.instances}) == 1


def test_finds_replugged_camera_within_max_delay(usb: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with opened() as camera:
        next_frame(camera)
        usb.opens, usb.dead_nodes = False, ("/dev/video9",)
        until(lambda: len(usb.instances) > 6)
        until(lambda: camera.status == "stalled")
        with pytest.raises(NoFrameYet):
            camera.read()
        usb.opens, usb.dead_nodes = True, ()
        next_frame(camera)
    assert max(pauses(caplog)) <= QUICK.max_delay + 0.05  # messages round to tenths of a second
    lines = [record.getMessage() for record in caplog.records]
    assert "/dev/video9: gave no frame; is it unplugged or in use? (opening it again in" in lines[0]
    assert caplog.records[0].levelno == logging.WARNING
    assert any("cannot be opened" in line for line in lines)
    assert "gives frames again after" in lines[-1]


def test_skips_damaged_frames_without_reopening(usb: Hardware) -> None:
    usb.damaged = [0, 1]
    with opened(PATIENT) as camera:
        first = next_frame(camera)
        usb.damaged = list(range(first.number, first.number + 15))
        assert next_frame(camera).number > first.number
        assert len(usb.instances) == 1
        assert usb.instances[0].is_open


def test_reopens_camera_that_gives_only_damaged_frames(usb: Hardware) -> None:
    usb.all_damaged = True
    with pytest.raises(SourceError, match=r"gave no frame but \d+ damaged ones? for"), opened():
        pass
    with opened(wait=False) as camera:
        until(lambda: bool(camera.status) and len(usb.instances) > 2)
        usb.all_damaged = False
        assert next_frame(camera)


def test_delays_double_up_to_max_delay_and_are_randomized(usb: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with opened(replace(QUICK, min_delay=0.2, max_delay=0.8)) as camera:
        next_frame(camera)
        usb.opening_takes = 0.25  # longer than a delay, like a network time-out
        usb.opens, usb.dead_nodes = False, ("/dev/video9",)
        # Messages round to tenths of a second, so some neighbours are equal by chance.
        until(lambda: bool(camera.status) and len(pauses(caplog)) >= 6 and len(set(pauses(caplog)[2:])) > 1)
    for pause, max_pause in zip(pauses(caplog), (0.2, 0.4, 0.8, 0.8, 0.8, 0.8), strict=False):
        assert max_pause / 2 - 0.05 <= pause <= max_pause + 0.05


def test_delays_grow_if_camera_fails_after_each_first_frame(usb: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    usb.frames_then_fails = 1
    with opened(replace(QUICK, min_delay=0.1, max_delay=1.6), wait=False) as camera:
        until(lambda: bool(camera.status) and len(pauses(caplog)) >= 4)
    assert pauses(caplog)[3] >= 0.35


def test_waits_for_a_missing_camera_and_logs_the_reason_once(usb: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    usb.opens = False
    with opened(wait=False) as camera:
        until(lambda: camera.status == "offline" and len(usb.instances) > 2)
        with pytest.raises(NoFrameYet):
            camera.read()
        assert caplog.text.count("/dev/video9: cannot be opened") == 1
        usb.opens = True
        next_frame(camera)
        assert camera.status == "online"


def test_fails_at_once_if_it_is_to_wait_for_a_missing_camera(usb: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    usb.opens = False
    camera = Camera(SETTINGS, QUICK, wait=True)
    with pytest.raises(SourceError, match="/dev/video9: cannot be opened") as caught:
        camera.open()
    assert caught.value.exit_status == 2
    assert not camera_processes()
    assert not caplog.records
    usb.opens = True
    camera.open()
    assert camera.status == "online"
    camera.close()


def test_gives_up_a_camera_that_stays_missing_and_says_why(usb: Hardware) -> None:
    usb.opens = False
    with (
        opened(replace(QUICK, give_up=1.5), wait=False) as camera,
        pytest.raises(SourceLostError, match=r"/dev/video9: cannot be opened; .*; gave up after \d+ s"),
    ):
        read_until_lost(camera)


def test_gives_up_source_that_stays_away(usb: Hardware) -> None:
    with opened(replace(QUICK, stall=0.2, give_up=2.0)) as camera:
        next_frame(camera)
        usb.opens, usb.dead_nodes = False, ("/dev/video9",)
        with pytest.raises(SourceLostError, match="/dev/video9: gave no frame for") as caught:
            read_until_lost(camera)
        assert caught.value.exit_status == 1
        assert "/dev/video9: " in str(caught.value.__cause__)


def test_kills_a_process_whose_driver_hangs_and_opens_the_camera_in_another(
    usb: Hardware, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(replace(QUICK, hang=3.0)) as camera:
        last = next_frame(camera)
        usb.hangs = True
        [hanging] = camera_processes()
        read_until_status(camera, "stalled")
        until(lambda: bool(camera.status) and hanging not in camera_processes())
        usb.hangs = False
        assert next_frame(camera).number > last.number
        assert not usb.instances[0].is_open
        assert camera.status == "online"
    assert "/dev/video9: the driver hangs (opening it again in" in caplog.text


def test_gives_up_a_driver_that_always_hangs(usb: Hardware) -> None:
    with opened(replace(QUICK, stall=0.2, hang=3.0, give_up=5.0)) as camera:
        next_frame(camera)
        usb.hangs = True
        start = time.monotonic()
        with pytest.raises(SourceLostError, match="gave no frame for"):
            read_until_lost(camera)
        assert time.monotonic() - start < LONG
    assert not camera_processes()


def test_a_hanging_opening_blocks_neither_read_nor_close(usb: Hardware) -> None:
    usb.opening_hangs = True
    with opened(wait=False) as camera:
        until(lambda: bool(camera.status) and bool(usb.instances))
        start = time.monotonic()
        with pytest.raises(NoFrameYet):
            camera.read()
        camera.close()
        assert camera.status == "disabled"
        assert time.monotonic() - start < LONG / 3
    assert not camera_processes()


def test_reports_a_driver_that_hangs_from_the_first(usb: Hardware) -> None:
    usb.opening_hangs = True
    with pytest.raises(SourceError, match="/dev/video9: the driver hangs"), opened(replace(QUICK, hang=2.0)):
        pass


@pytest.mark.usefixtures("usb")
def test_does_not_blame_the_driver_for_a_process_that_starts_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_START_TIMEOUT", 0.0)
    with pytest.raises(SourceError, match="/dev/video9: the camera's process does not start in time; "), opened():
        pass
    assert not camera_processes()


def test_is_disabled_as_soon_as_the_process_of_a_hanging_driver_is_killed(usb: Hardware) -> None:
    with opened() as camera:
        next_frame(camera)
        usb.hangs = True
        read_until_status(camera, "stalled")
        camera.close()
        assert camera.status == "disabled"
        assert not camera_processes()
        assert not usb.instances[0].is_open
        usb.hangs = False
        camera.open()
        next_frame(camera)


def test_says_if_the_kernel_does_not_end_a_process(
    usb: Hardware, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Stands for a driver in uninterruptible sleep: the signal has no effect.
    killed = threading.Event()
    monkeypatch.setattr(CameraProcess, "is_gone", property(lambda _: killed.is_set()))
    with opened(replace(QUICK, give_up=0.7), wait=False) as camera:
        next_frame(camera)
        camera.close()
        for _ in range(3):
            assert camera.status == "stalled"
            with pytest.raises(NoFrameYet):
                camera.read()
        assert caplog.text.count("/dev/video9: cannot be switched off: its driver hangs in the kernel (process") == 1
        camera.open()
        with pytest.raises(SourceLostError, match="hangs in the kernel"):
            read_until_lost(camera)
        assert len(usb.instances) == 1, "opened twice at once"
        camera.close()
        killed.set()
        assert camera.status == "disabled"


def test_opens_the_camera_again_after_its_process_was_killed_or_has_crashed(
    usb: Hardware, caplog: pytest.LogCaptureFixture
) -> None:
    with opened() as camera:
        frame = next_frame(camera)
        before = frame.gray.copy()
        [process] = camera_processes()
        os.kill(process, signal.SIGKILL)
        read_until_status(camera, "stalled")
        assert (frame.gray == before).all()
        assert next_frame(camera).number > frame.number
        assert "/dev/video9: the camera's process ended (SIGKILL) (opening it again in" in caplog.text
        usb.crashes = True
        read_until_status(camera, "stalled")
        usb.crashes = False
        next_frame(camera)
        assert "(SIGABRT)" in caplog.text


@pytest.mark.usefixtures("usb")
def test_signals_of_a_terminal_or_of_systemd_do_not_end_the_process(capfd: pytest.CaptureFixture[str]) -> None:
    with opened(wait=False) as camera:
        camera.open()
        [process] = camera_processes()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process, number)  # while it starts
        next_frame(camera)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(process, number)
        for _ in range(5):
            next_frame(camera)
        assert camera_processes() == [process]
    assert "Traceback" not in capfd.readouterr().err


def test_a_process_that_cannot_be_started_is_one_line(usb: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(SourceError, match=r"/dev/video9: the camera's process cannot be started \(No such file"):
        Camera(SETTINGS, QUICK, wait=True).open()
    assert not usb.instances


def test_a_new_process_takes_over_when_failed_openings_leak(usb: Hardware, caplog: pytest.LogCaptureFixture) -> None:
    with opened() as camera:
        next_frame(camera)
        usb.opens, usb.dead_nodes, usb.leaks = False, ("/dev/video9",), True
        until(lambda: bool(camera.status) and len({capture.process for capture in usb.instances}) > 2)
        usb.opens, usb.dead_nodes = True, ()
        next_frame(camera)
    per_process = [sum(each.process == process.process for each in usb.instances) for process in usb.instances]
    assert max(per_process) <= 12
    assert "process ended" not in caplog.text


def measure(camera: Camera) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return descriptors, threads and memory of this process, and of the camera's."""
    assert camera._process
    folder = Path("/proc", str(camera._process.number))
    theirs = int((folder / "statm").read_text().split()[1]) * 4096 / 1e6
    return np.array(
        [
            len(list(Path("/proc/self/fd").iterdir())),
            threading.active_count(),
            resident_mb(),
            len(list((folder / "fd").iterdir())),
            len(list((folder / "task").iterdir())),
            theirs,
        ]
    )


def test_two_hundred_reopenings_leak_no_descriptor_thread_or_memory(
    usb: Hardware, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, camera_module.__name__)  # pytest keeps every record
    usb.frames_then_fails, usb.interval = 2, 0
    measured = []
    with opened(replace(QUICK, min_delay=0.0001, max_delay=0.0002), wait=False) as camera:
        for openings in (50, 250):
            while usb.openings < openings:
                with contextlib.suppress(NoFrameYet):
                    camera.read()
            measured.append(measure(camera))
    assert len({capture.process for capture in usb.instances}) == 1
    change = measured[1] - measured[0]
    assert change[0] == change[1] == change[4] == 0
    assert abs(change[3]) <= 1  # at that moment, a capture may be open or not
    assert change[2] < 5
    assert change[5] < 5


def test_switchings_and_kills_at_random_moments_leak_nothing(usb: Hardware) -> None:
    def count() -> tuple[int, int, set[str]]:
        names = {path.name for path in Path("/dev/shm").iterdir()}  # noqa: S108 - only listed
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), names

    camera = Camera(SETTINGS, QUICK)
    before = count()
    for number in range(9):
        camera.open()
        if number % 3 == 0:
            next_frame(camera)
        elif number % 3 == 1:
            time.sleep(number / 25)
        else:
            next_frame(camera)
            os.kill(camera_processes()[0], signal.SIGKILL)
        camera.close()
        assert camera.status == "disabled"
        assert not camera_processes()
        assert not any(capture.is_open for capture in usb.instances)
    after = count()
    assert after[:2] == before[:2]
    assert not {name for name in after[2] - before[2] if "fer" in name}
