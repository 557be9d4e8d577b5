"""Read what Linux reports about the machine, from files below a root folder."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Final

from fer_edge.bench.conditions import Condition
from fer_edge.utils.system import temperature_c, throttled_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path("/")


@dataclasses.dataclass(frozen=True, slots=True)
class MachineFacts:
    """What does not change while a machine works; the attributes are those of `Environment`."""

    cpu: str
    system: str
    cores: int
    quota: float | None
    governor: str | None
    governor_driver: str | None
    clock_limits_mhz: tuple[float, float] | None

    @classmethod
    def read(cls, root: Path = ROOT) -> MachineFacts:
        """Read the facts of this machine."""
        policy = _policies(root)[:1]
        limits = [_read_number(folder / f"scaling_{end}_freq") for folder in policy for end in ("min", "max")]
        return cls(
            cpu=_cpu_name(root),
            system=_read_assignment(root / "etc/os-release", "PRETTY_NAME"),
            cores=_count_cores(root),
            quota=_cpu_quota(root),
            governor=_read_text(policy[0] / "scaling_governor") if policy else None,
            governor_driver=_read_text(policy[0] / "scaling_driver") if policy else None,
            clock_limits_mhz=(limits[0] / 1000, limits[1] / 1000) if policy and limits[0] and limits[1] else None,
        )


def read_condition(root: Path = ROOT) -> Condition:
    """Read the state of the machine at this moment."""
    clocks = [clock / 1000 for policy in _policies(root) if (clock := _read_number(policy / "scaling_cur_freq"))]
    if not clocks:  # a virtual machine has no governor, but states its clock
        cpuinfo = _read_text(root / "proc/cpuinfo") or ""
        clocks = [float(value) for value in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", cpuinfo, re.MULTILINE)]
    load = (_read_text(root / "proc/loadavg") or "0").split()[0]
    return Condition(
        load=float(load),
        clock_mhz=round(fmean(clocks), 1) if clocks else None,
        temperature_c=temperature_c(),
        throttled=throttled_flags(),
    )


def read_ticks(root: Path = ROOT) -> Sequence[int] | None:
    """Read the time of all processors since the start, in clock ticks.

    Returns:
        Ticks in user, nice, system, idle, I/O wait, interrupts, soft interrupts, stolen; None if they are unknown.
    """
    words = (_read_text(root / "proc/stat") or "").split()
    return [int(word) for word in words[1:9]] if words[:1] == ["cpu"] else None


def _policies(root: Path) -> list[Path]:
    return sorted((root / "sys/devices/system/cpu/cpufreq").glob("policy*"))


def _cpu_name(root: Path) -> str:
    cpuinfo = _read_text(root / "proc/cpuinfo") or ""
    fields = dict(re.findall(r"^([^\t:\n]+?)\s*:[ \t]*(.*)$", cpuinfo, re.MULTILINE))
    if "model name" in fields:
        return str(fields["model name"])
    return f"ARM part {fields['CPU part']}" if "CPU part" in fields else "unknown"


def _count_cores(root: Path) -> int:
    online = _read_text(root / "sys/devices/system/cpu/online") or ""
    ranges = [part.partition("-") for part in online.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges) or os.cpu_count() or 1


def _cpu_quota(root: Path) -> float | None:
    """Return the lowest limit of the process's control group (version 2) and its parents, in processors."""
    own = re.search(r"^0::(/.*)$", _read_text(root / "proc/self/cgroup") or "", re.MULTILINE)
    top = root / "sys/fs/cgroup"
    group = top / (own.group(1).lstrip("/") if own else "")
    limits = []
    for folder in (group, *group.parents):
        quota, _, period = (_read_text(folder / "cpu.max") or "max").partition(" ")
        if quota.isdigit() and period.isdigit():
            limits.append(int(quota) / int(period))
        if folder == top:
            break
    return min(limits, default=None)


def _read_number(path: Path) -> int | None:
    text = _read_text(path)
    return int(text) if text and text.isdigit() else None


def _read_assignment(path: Path, key: str) -> str:
    found = re.search(rf'^{key}="?([^"\n]*)', _read_text(path) or "", re.MULTILINE)
    return found.group(1) if found else ""


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
