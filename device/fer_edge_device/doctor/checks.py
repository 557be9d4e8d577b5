"""All checks, in the order in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fer_edge_device.doctor.base import Check
from fer_edge_device.doctor.broker import BROKER_TIMEOUT, check_broker
from fer_edge_device.doctor.camera import FIRST_FRAME_TIMEOUT, check_camera
from fer_edge_device.doctor.clock import check_clock
from fer_edge_device.doctor.collect import check_collect_folder
from fer_edge_device.doctor.libraries import check_libraries, check_runtime
from fer_edge_device.doctor.models import check_classifier, check_detector
from fer_edge_device.doctor.outbox import check_outbox
from fer_edge_device.doctor.picamera2 import check_picamera2
from fer_edge_device.doctor.python import check_python
from fer_edge_device.doctor.secrets import check_secrets
from fer_edge_device.doctor.service import check_service
from fer_edge_device.doctor.temperature import check_temperature
from fer_edge_device.doctor.video_group import check_video_group

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKS: Final[Mapping[str, Check]] = {
    "python": Check(check_python),
    "runtime": Check(check_runtime),
    "libraries": Check(check_libraries),
    "picamera2": Check(check_picamera2),
    "video group": Check(check_video_group),
    "camera": Check(
        check_camera,
        timeout=3 * FIRST_FRAME_TIMEOUT,
        timeout_advice="its driver or its network hangs: unplug the camera and plug it in again, or reboot",
    ),
    "model": Check(check_classifier),
    "detector": Check(check_detector),
    "secrets": Check(check_secrets),
    "broker": Check(
        check_broker,
        timeout=2 * BROKER_TIMEOUT,
        timeout_advice="check its address, and any firewall in between",
    ),
    "clock": Check(check_clock),
    "temperature": Check(check_temperature),
    "outbox": Check(check_outbox),
    "collected faces": Check(check_collect_folder),
    "service": Check(check_service),
}
