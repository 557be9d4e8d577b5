"""Record the environment of a measurement, and warn if it makes the measurement doubtful."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import operator
import os
import platform
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.bench.conditions import Environment
from fer_edge.bench.machine import ROOT, MachineFacts, read_condition, read_ticks
from fer_edge.tflite.interpreter import runtime_name
from fer_edge.utils.system import THROTTLED_NOW, describe_throttling, machine_name
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fer_edge.bench.conditions import Condition
    from fer_edge.bench.results import Case

_MAX_OTHERS: Final = 0.05  # share of all processor time
_MAX_STOLEN: Final = 0.01
_MAX_LOAD: Final = 0.5  # for each processor
_MAX_DRIFT: Final = 0.05
_MIN_RUNS: Final = 20  # of each half
# The governor ``powersave`` of these drivers raises the clock when there is work.
_DYNAMIC_POWERSAVE: Final = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")


class EnvironmentMonitor:
    """Measures from its creation on how much time other programs take."""

    def __init__(self, root: Path = ROOT) -> None:
        """Start to measure, with the files below ``root``."""
        self._root = root
        self._facts = MachineFacts.read(root)
        self._before, self._ticks, self._own_seconds = read_condition(root), read_ticks(root), _own_cpu_seconds()

    def environment(self) -> Environment:
        """Return the environment of what was measured up to now."""
        others, stolen = self._shares()
        versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
        return Environment(
            machine=machine_name(),
            **dataclasses.asdict(self._facts),
            architecture=platform.machine(),
            kernel=platform.release(),
            allowed=len(os.sched_getaffinity(0)),
            runtime=runtime_name(),
            delegate=f"XNNPACK as built into {runtime_name()}",
            versions={"fer-edge": importlib.metadata.version("fer-edge"), **versions},
            opencv_threads=cv2.getNumThreads(),
            before=self._before,
            after=read_condition(self._root),
            others=others,
            stolen=stolen,
        )

    def _shares(self) -> tuple[float | None, float | None]:
        """Return the shares of processor time that other programs and the host of a virtual machine took."""
        now, own = read_ticks(self._root), _own_cpu_seconds() - self._own_seconds
        if now is None or self._ticks is None:
            return None, None
        passed = [after - before for before, after in zip(self._ticks, now, strict=True)]
        if sum(passed) <= 0:
            return None, None
        user, nice, system, _idle, _io_wait, interrupts, soft_interrupts, stolen = passed
        busy = user + nice + system + interrupts + soft_interrupts - own * os.sysconf("SC_CLK_TCK")
        return round(max(busy, 0) / sum(passed), 4), round(stolen / sum(passed), 4)


def warnings(
    environment: Environment, cases: Sequence[Case] = (), meanwhile: Sequence[Condition] = ()
) -> tuple[str, ...]:
    """Return the reasons to doubt a measurement.

    Args:
        environment: its environment.
        cases: its results.
        meanwhile: states of the machine between the start and the end.

    Returns:
        Sentences without full stops.
    """
    conditions = (environment.before, *meanwhile, environment.after)
    found = [*_warn_of_load(environment), *_warn_of_governor(environment), *_warn_of_throttling(conditions)]
    cores = environment.allowed if environment.quota is None else min(environment.allowed, environment.quota)
    for case in cases:
        ratio = _drift(case.samples)
        if abs(ratio - 1) > _MAX_DRIFT:
            found.append(f"{case.id}: the second half of the runs took {ratio:.2f} times as long as the first")
    threads = sorted({case.threads for case in cases if case.threads > cores})
    if threads:
        processors = "1 processor" if cores == 1 else f"{cores:g} processors"
        found.append(f"{processors} had to run {' and '.join(map(str, threads))} threads")
    return tuple(found)


def _drift(samples: Sequence[float]) -> float:
    """Return the ratio of the medians of the second and the first half; 1 for too few runs."""
    half = len(samples) // 2
    return 1.0 if half < _MIN_RUNS else float(np.median(samples[half:]) / np.median(samples[:half]))


def _warn_of_load(environment: Environment) -> list[str]:
    found = []
    if environment.others is not None and environment.others > _MAX_OTHERS:
        found.append(f"the machine was busy: other programs took {environment.others:.0%} of the processor time")
    if environment.before.load > _MAX_LOAD * environment.cores:
        load = f"{environment.before.load:g} on {counted(environment.cores, 'core')}"
        found.append(f"the machine was busy before the start: a load of {load}")
    if environment.stolen is not None and environment.stolen > _MAX_STOLEN:
        found.append(f"the host of this virtual machine took {environment.stolen:.1%} of the processor time")
    if environment.quota is not None and environment.quota < environment.allowed:
        found.append(f"a control group limits this process to the time of {environment.quota:g} processors")
    return found


def _warn_of_governor(environment: Environment) -> list[str]:
    governor, driver = environment.governor, environment.governor_driver
    if governor == "conservative" or (governor == "powersave" and driver not in _DYNAMIC_POWERSAVE):
        return [
            f"the governor {governor} keeps the clock low; `cpupower frequency-set -g performance` sets another one"
        ]
    return []


def _warn_of_throttling(conditions: Sequence[Condition]) -> list[str]:
    flags = [condition.throttled or 0 for condition in conditions]
    # Throttling between two readings shows in the bits for "has occurred since the machine started".
    missed = (flags[-1] & ~flags[0]) >> 16
    combined = functools.reduce(operator.or_, flags, missed) & THROTTLED_NOW
    return [f"the firmware reported {', '.join(describe_throttling(combined))} meanwhile"] if combined else []


def _own_cpu_seconds() -> float:
    """Return the processor time of this process and of its finished children."""
    return sum(os.times()[:4])
