"""Time several functions in turns, so that drift affects all of them alike, and compute statistics."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.bench.results import MAX_SAMPLES, Case, LatencyStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fer_edge.bench.results import CaseId

TURN: Final = 10  # runs
_WARM_UP: Final = 3


def interleave(
    functions: Sequence[Callable[[int], object]], runs: int, seconds: float | None = None
) -> list[npt.NDArray[np.float64]]:
    """Time functions in turns of `TURN` runs; before each turn comes a run that does not count.

    Args:
        functions: called with the number of the run.
        runs: runs of each function, unless ``seconds`` is given.
        seconds: time for each function, instead of a number of runs; each gets at least one run.

    Returns:
        Milliseconds of the runs of each function, of shape (runs,).
    """
    times: list[list[int]] = [[] for _ in functions]
    spent = [0] * len(functions)
    for function in functions:
        for run in range(_WARM_UP):
            function(run)
    unfinished = set(range(len(functions)))
    while unfinished:
        for index in sorted(unfinished):
            function, own_times = functions[index], times[index]
            function(len(own_times))  # fills the caches again, which the others have used meanwhile
            for _ in range(TURN):
                start = time.perf_counter_ns()
                function(len(own_times))
                own_times.append(time.perf_counter_ns() - start)
                spent[index] += own_times[-1]
                if len(own_times) >= runs if seconds is None else spent[index] >= seconds * 1e9:
                    unfinished.discard(index)
                    break
    return [np.array(own_times) / 1e6 for own_times in times]


def compute_stats(samples: npt.NDArray[np.float64], batch: int = 1) -> LatencyStats:
    """Compute the statistics of times.

    Args:
        samples: milliseconds, of shape (runs,), at least one run.
        batch: faces or frames in each run.
    """
    median, p95, p99 = (round(float(value), 4) for value in np.percentile(samples, (50, 95, 99)))
    deviation = float(samples.std(ddof=1)) if len(samples) > 1 else 0.0
    return LatencyStats(
        min=round(float(samples.min()), 4),
        median=median,
        p95=p95,
        p99=p99,
        standard_deviation=round(deviation, 4),
        runs=len(samples),
        per_second=round(batch * 1000 / float(samples.mean()), 2),
    )


def make_case(case_id: CaseId, samples: npt.NDArray[np.float64]) -> Case:
    """Return a case with its milliseconds, of shape (runs,)."""
    kept = samples
    if len(samples) > MAX_SAMPLES:
        # Not every n-th sample: the frames repeat, and some would never be among them.
        kept = samples[np.sort(np.random.default_rng(0).choice(len(samples), MAX_SAMPLES, replace=False))]
    latency = compute_stats(samples, case_id.batch)
    return Case(**dataclasses.asdict(case_id), latency=latency, samples=tuple(np.round(kept, 4).tolist()))
