"""Helpers for the tests of the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge_device.config.settings import CameraSettings, Config
from fer_edge_device.doctor.base import run_check
from fer_edge_device.doctor.checks import CHECKS
from fer_edge_device.install.systemd_units import UnitState

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_device.doctor.base import Finding

SERVICE = UnitState(
    name="fer-edge.service",
    loaded=True,
    active="active",
    sub="running",
    enabled=True,
    since="today",
    restarts=0,
    status="watching",
    result="success",
    pid=1,
    groups=("video",),
)


def with_source(source: str | Path) -> Config:
    """Return a configuration with this source of frames."""
    return Config(camera=CameraSettings(source=str(source)))


def finding(name: str, config: Config) -> Finding:
    """Run one check in this process and return its finding."""
    return run_check(CHECKS[name].function, config)
