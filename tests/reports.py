"""Benchmark reports with invented values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fer_edge.bench.conditions import Condition, Environment, Settings
from fer_edge.bench.interleave import make_case
from fer_edge.bench.results import CaseId, Model, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

IDLE = Condition(load=0.1, clock_mhz=1800.0, temperature_c=45.0, throttled=0)
PI = Environment(
    machine="A Pi",
    cpu="ARM part 0xd0b",
    architecture="aarch64",
    kernel="6.12",
    system="Debian",
    cores=4,
    allowed=4,
    quota=None,
    governor="ondemand",
    governor_driver="cpufreq-dt",
    clock_limits_mhz=(600.0, 1800.0),
    runtime="some 1.0",
    delegate="XNNPACK, built into some 1.0",
    versions={"python": "3.13", "opencv": "4.11"},
    opencv_threads=4,
    before=IDLE,
    after=IDLE,
    others=0.01,
    stolen=0.0,
)
CASE_IDS = (CaseId("classifier", "edge", 1), CaseId("detect"), CaseId("whole_frame", "edge", 1))


def make_report(
    times: Mapping[CaseId, npt.NDArray[np.float64]] | None = None,
    environment: Environment = PI,
    model: str = "edge",
    accuracy: float | None = 0.67,
) -> Report:
    """Return a result of an idle Pi with the given milliseconds of each case."""
    times = times or {case_id: np.array([1.0, 1.25, 2.5]) for case_id in CASE_IDS}
    return Report(
        made="2026-01-01T00:00:00+00:00",
        environment=environment,
        settings=Settings(
            detector="network",
            detector_sha256="1" * 64,
            min_face=None,
            frame=(640, 480),
            faces=2.0,
            found=2.0,
            runs=3,
            seconds=None,
            turn=10,
        ),
        models=(
            Model(
                name="edge",
                path=model,
                sha256="0" * 64,
                bytes=1,
                accuracy=accuracy,
                accuracy_of="accuracy" if accuracy else "",
                delegate="takes every operator",
            ),
        ),
        cases=tuple(make_case(case_id, samples) for case_id, samples in times.items()),
    )
