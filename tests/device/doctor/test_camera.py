from __future__ import annotations

import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np

from fer_edge_device.config.settings import CameraSettings, Config, MqttSettings, OutboxSettings, WebSettings
from fer_edge_device.doctor import camera
from fer_edge_device.doctor.base import Finding
from fer_edge_device.doctor.camera import check_camera
from fer_edge_device.doctor.camera_devices import camera_users
from fer_edge_device.doctor.checks import CHECKS
from fer_edge_device.doctor.runner import run_checks
from fer_edge_device.privacy_switch import PrivacySwitch
from tests.device.doctor.helpers import SERVICE, finding, with_source
from tests.processes import Process

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.device.fakes import Hardware


def test_reports_a_camera_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections and never answers
        config = with_source(f"http://127.0.0.1:{server.getsockname()[1]}/video")
        (hung,) = run_checks(config, {"camera": replace(CHECKS["camera"], timeout=3.0)})
    assert (hung.level, hung.message) == ("failure", "no answer within 3 s")
    assert "network" in hung.advice


def test_accepts_a_source_with_frames_and_reports_a_missing_one(tmp_path: Path) -> None:
    present, absent = finding("camera", with_source("demo")), finding("camera", with_source("/dev/video987"))
    assert present.level == "ok"
    assert "640x480" in present.message
    assert absent.level == "failure"
    assert "/dev/video987: cannot be opened" in absent.message
    (tmp_path / "dark").mkdir()
    cv2.imwrite(str(tmp_path / "dark" / "1.png"), np.zeros((48, 64), np.uint8))
    dark = finding("camera", with_source(tmp_path / "dark"))
    assert dark.level == "warning"
    assert "lens" in dark.advice


def test_does_not_open_the_camera_of_a_node_that_is_switched_off(usb: Hardware, tmp_path: Path) -> None:
    outbox = OutboxSettings(path=str(tmp_path / "events.sqlite"))
    config = Config(camera=CameraSettings(source="7"), mqtt=MqttSettings(url="mqtt://localhost"), outbox=outbox)
    switch = PrivacySwitch(tmp_path / "events.sqlite")
    switch.save(on=False)
    with_page = msgspec.structs.replace(config, mqtt=MqttSettings(), web=WebSettings(listen="8080"))
    for each in (config, with_page):
        assert check_camera(each) == Finding("ok", "the node is switched off, so its camera was not opened")
    assert not usb.instances
    switch.save(on=True)
    assert "gives 640x480 frames" in check_camera(config).message
    assert not usb.instances[0].is_open


def test_leaves_a_camera_to_the_running_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    source = f"/dev/..{link}"
    monkeypatch.setattr(camera, "service_units", lambda: [replace(SERVICE, pid=os.getpid())])
    with open("/dev/null", "rb"):  # noqa: PTH123 - this process stands for the service's
        used = check_camera(with_source(source))
    with open("/dev/null", "rb") as file, Process(["sleep", "600"], stdin=file) as child:  # noqa: PTH123
        used_by_child = check_camera(with_source(source))  # which stands for the camera's process
        child.kill()
    assert used_by_child == used
    assert (used.level, used.message.partition(";")[0]) == ("ok", "fer-edge.service is running and uses it")
    absent = finding("camera", with_source("/dev/video987"))
    assert (absent.level, "/dev/video987: cannot be opened" in absent.message) == ("failure", True)

    monkeypatch.setattr(camera, "open_files_of_service", lambda _: None)  # as for another user's process
    unseen = check_camera(with_source(source))
    assert unseen == Finding(
        "warning", "fer-edge.service is running and may use the camera", "sudo shows whether it does"
    )
    assert finding("camera", with_source("/dev/video987")).level == "failure"


def test_names_the_program_that_uses_a_camera(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.touch()
    with device.open() as file, Process(["sleep", "600"], stdin=file) as other:
        assert camera_users(str(device)) == [f"sleep (process {other.pid})"]
        other.kill()
    assert camera_users(str(device)) == []
