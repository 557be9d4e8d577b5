"""Measure work without a pause, to see whether heat slows the machine down."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.bench.machine import read_condition
from fer_edge.bench.results import Stretch, SustainedLoad

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_STRETCHES: Final = 600
_MIN_STRETCH_S: Final = 1.0


def sustain(function: Callable[[int], object], case: str, seconds: float) -> SustainedLoad:
    """Call a function again and again, and read the state of the machine now and then.

    Args:
        function: called with the number of the run.
        case: the case, in words.
        seconds: how long; there are at least two stretches.
    """
    stretch_s = max(seconds / _MAX_STRETCHES, min(_MIN_STRETCH_S, seconds / 2))
    stretches: list[Stretch] = []
    begin = time.perf_counter()
    run = 0
    while len(stretches) < 2 or time.perf_counter() - begin < seconds:
        times: list[float] = []
        end = begin + (len(stretches) + 1) * stretch_s
        while not times or time.perf_counter() < end:
            start = time.perf_counter()
            function(run)
            times.append((time.perf_counter() - start) * 1e3)
            run += 1
        passed = time.perf_counter() - begin
        stretches.append(
            Stretch(
                seconds=round(passed, 2),
                median=round(median(times), 4),
                frames=len(times),
                condition=read_condition(),
            )
        )
    tenth = max(len(stretches) // 10, 1)
    first, last = (np.median([stretch.median for stretch in part]) for part in (stretches[:tenth], stretches[-tenth:]))
    return SustainedLoad(case=case, stretches=tuple(stretches), drift=round(float(last / first), 4))
