"""What a measurement is taken on, and why it may not be worth much."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import operator
import os
import platform
import re
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from fer_edge.bench.results import Case, Condition, Environment
from fer_edge.tflite.interpreter import runtime_name
from fer_edge.utils.system import THROTTLED_NOW, describe_throttling, machine_name, temperature_c, throttled_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

_SYSTEM: Final = Path("/")
_BUSY: Final = 0.05  # share of all processors' time
_LOADED: Final = 0.5  # jobs waiting, a processor
_DRIFTED: Final = 0.05
_FEW: Final = 20  # runs
# These drivers have a governor of this name that does raise the clock when there is work.
_WAKEFUL: Final = ("intel_pstate", "amd-pstate-epp", "amd_pstate_epp")


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """What stays as it is while a machine works; as in `Environment`."""

    cpu: str
    system: str
    cores: int
    quota: float | None
    governor: str | None
    governor_driver: str | None
    clock_limits_mhz: tuple[float, float] | None

    @classmethod
    def read(cls, root: Path = _SYSTEM) -> Machine:
        """From what Linux tells in the files below ``root``."""
        policy = _policies(root)[:1]
        limits = [_number(one / f"scaling_{end}_freq") for one in policy for end in ("min", "max")]
        return cls(
            cpu=_cpu(root),
            system=_quoted(root / "etc/os-release", "PRETTY_NAME"),
            cores=_cores(root),
            quota=_quota(root),
            governor=_text(policy[0] / "scaling_governor") if policy else None,
            governor_driver=_text(policy[0] / "scaling_driver") if policy else None,
            clock_limits_mhz=(limits[0] / 1000, limits[1] / 1000) if policy and limits[0] and limits[1] else None,
        )


def condition(root: Path = _SYSTEM) -> Condition:
    """How the machine is at this moment, by the files below ``root``."""
    clocks = [clock / 1000 for policy in _policies(root) if (clock := _number(policy / "scaling_cur_freq"))]
    if not clocks:  # a virtual machine's do not change, but are known
        clocks = [
            float(value)
            for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
        ]
    load = (_text(root / "proc/loadavg") or "0").split()[0]
    return Condition(
        load=float(load),
        clock_mhz=round(fmean(clocks), 1) if clocks else None,
        temperature_c=temperature_c(),
        throttled=throttled_flags(),
    )


class Watch:
    """Watches what else the machine does, from its making on."""

    def __init__(self, root: Path = _SYSTEM) -> None:
        """Begin to watch, by the files below ``root``."""
        self._root = root
        self._machine = Machine.read(root)
        self._before, self._ticks, self._own = condition(root), _ticks(root), _own_seconds()

    def environment(self) -> Environment:
        """What was measured on, up to now."""
        others, stolen = self._shares()
        versions = {"python": platform.python_version(), "numpy": np.__version__, "opencv": cv2.__version__}
        return Environment(
            machine=machine_name(),
            **dataclasses.asdict(self._machine),
            architecture=platform.machine(),
            kernel=platform.release(),
            allowed=len(os.sched_getaffinity(0)),
            runtime=runtime_name(),
            delegate=f"XNNPACK as built into {runtime_name()}",
            versions={"fer-edge": importlib.metadata.version("fer-edge"), **versions},
            opencv_threads=cv2.getNumThreads(),
            before=self._before,
            after=condition(self._root),
            others=others,
            stolen=stolen,
        )

    def _shares(self) -> tuple[float | None, float | None]:
        now, own = _ticks(self._root), _own_seconds() - self._own
        if now is None or self._ticks is None:
            return None, None
        passed = [after - before for before, after in zip(self._ticks, now, strict=True)]
        if sum(passed) <= 0:
            return None, None
        user, nice, system, idle, waiting, interrupts, soft, stolen = passed
        del idle, waiting
        busy = user + nice + system + interrupts + soft - own * os.sysconf("SC_CLK_TCK")
        return round(max(busy, 0) / sum(passed), 4), round(stolen / sum(passed), 4)


def warnings(
    environment: Environment, cases: Sequence[Case] = (), meanwhile: Sequence[Condition] = ()
) -> tuple[str, ...]:
    """Why figures may not be worth much.

    Args:
        environment: what they were measured on.
        cases: the figures.
        meanwhile: how the machine was between before and after, where somebody looked.

    Returns:
        Sentences without their full stops.
    """
    conditions = (environment.before, *meanwhile, environment.after)
    found = [*_about_others(environment), *_about_clock(environment), *_about_heat(conditions)]
    cores = environment.allowed if environment.quota is None else min(environment.allowed, environment.quota)
    for case in cases:
        times = _drift(case.samples)
        if abs(times - 1) > _DRIFTED:
            found.append(f"{case.way}: the second half of the runs took {times:.2f} times as long as the first")
    threads = sorted({case.threads for case in cases if case.threads > cores})
    if threads:
        found.append(f"there are {cores:g} processors for {' and '.join(map(str, threads))} threads")
    return tuple(found)


def _drift(samples: Sequence[float]) -> float:
    """How many times the median of the first half that of the second is; 1 for too few to tell."""
    half = len(samples) // 2
    return 1.0 if half < _FEW else float(np.median(samples[half:]) / np.median(samples[:half]))


def _about_others(environment: Environment) -> list[str]:
    found = []
    if environment.others is not None and environment.others > _BUSY:
        found.append(f"the machine was busy: other programs took {environment.others:.0%} of its processors' time")
    if environment.before.load > _LOADED * environment.cores:
        found.append(f"the machine was busy before: a load of {environment.before.load:g} on {environment.cores} cores")
    if environment.stolen is not None and environment.stolen > _BUSY / 5:
        found.append(f"the host of this virtual machine took {environment.stolen:.1%} of its processors' time")
    if environment.quota is not None and environment.quota < environment.allowed:
        found.append(f"a control group holds this process to {environment.quota:g} processors' time: it is held up")
    return found


def _about_clock(environment: Environment) -> list[str]:
    governor, driver = environment.governor, environment.governor_driver
    if governor == "conservative" or (governor == "powersave" and driver not in _WAKEFUL):
        return [f"the clock's governor is {governor}: `cpupower frequency-set -g performance` lets it run"]
    return []


def _about_heat(conditions: Sequence[Condition]) -> list[str]:
    seen = [one.throttled or 0 for one in conditions]
    # What came and went while nobody looked has left its trace in the bits of what was since the machine started.
    gone = (seen[-1] & ~seen[0]) >> 16
    flags = functools.reduce(operator.or_, seen, gone) & THROTTLED_NOW
    return [f"meanwhile the firmware told of {', '.join(describe_throttling(flags))}"] if flags else []


def _policies(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))


def _cpu(root: Path) -> str:
    fields = dict(re.findall(r"^([^\t:\n]+?)\s*:[ \t]*(.*)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE))
    if "model name" in fields:
        return str(fields["model name"])
    return f"ARM part {fields['CPU part']}" if "CPU part" in fields else "unknown"


def _cores(root: Path) -> int:
    online = _text(root / "sys/devices/system/cpu/online") or ""
    spans = [part.partition("-") for part in online.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in spans) or os.cpu_count() or 1


def _quota(root: Path) -> float | None:
    """The narrowest limit of the process's control group (version 2) and those that it is in."""
    own = re.search(r"^0::(/.*)$", _text(root / "proc/self/cgroup") or "", re.MULTILINE)
    top = root / "sys/fs/cgroup"
    group = top / (own.group(1).lstrip("/") if own else "")
    limits = []
    for folder in (group, *group.parents):
        quota, _, period = (_text(folder / "cpu.max") or "max").partition(" ")
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
        if folder == top:
            break
    return min(limits, default=None)


def _ticks(root: Path) -> Sequence[int] | None:
    """What all processors did since the start: user, nice, system, idle, waiting, interrupts, soft ones, stolen."""
    words = (_text(root / "proc/stat") or "").split()
    return [int(word) for word in words[1:9]] if words[:1] == ["cpu"] else None


def _own_seconds() -> float:
    """Processors' time of this process and of those that it waited for."""
    return sum(os.times()[:4])


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdigit() else None


def _quoted(path: Path, key: str) -> str:
    found = re.search(rf'^{key}="?([^"\n]*)', _text(path) or "", re.MULTILINE)
    return found.group(1) if found else ""


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
