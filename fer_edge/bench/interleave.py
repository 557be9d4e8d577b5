"""Timing several jobs so that whatever drifts hits all of them alike, and summing up."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Final

import numpy as np

from fer_edge.bench.results import SAMPLES, Case, Latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from fer_edge.bench.results import Way

TURN: Final = 10  # runs
_WARM_UP: Final = 3


def take_turns(
    jobs: Sequence[Callable[[int], object]], runs: int, seconds: float | None = None
) -> list[npt.NDArray[np.float64]]:
    """Time jobs by turns of `TURN` runs, each turn after one that does not count.

    Args:
        jobs: called with the number of the run.
        runs: of each job; read only without ``seconds``.
        seconds: for each job, instead of a number of runs; it gets one run at least.

    Returns:
        Milliseconds of the runs of each job, of shape (runs,).
    """
    taken: list[list[int]] = [[] for _ in jobs]
    spent = [0] * len(jobs)
    for job in jobs:
        for run in range(_WARM_UP):
            job(run)
    waiting = set(range(len(jobs)))
    while waiting:
        for at in sorted(waiting):
            job, mine = jobs[at], taken[at]
            job(len(mine))  # what the others left in the caches is not its own cost
            for _ in range(TURN):
                start = time.perf_counter_ns()
                job(len(mine))
                mine.append(time.perf_counter_ns() - start)
                spent[at] += mine[-1]
                if len(mine) >= runs if seconds is None else spent[at] >= seconds * 1e9:
                    waiting.discard(at)
                    break
    return [np.array(mine) / 1e6 for mine in taken]


def summary(samples: npt.NDArray[np.float64], batch: int = 1) -> Latency:
    """Sum up milliseconds of shape (runs,), runs at least 1, in each of which ``batch`` things were done."""
    median, p95, p99 = (round(float(value), 4) for value in np.percentile(samples, (50, 95, 99)))
    deviation = float(samples.std(ddof=1)) if len(samples) > 1 else 0.0
    return Latency(
        min=round(float(samples.min()), 4),
        median=median,
        p95=p95,
        p99=p99,
        standard_deviation=round(deviation, 4),
        runs=len(samples),
        per_second=round(batch * 1000 / float(samples.mean()), 2),
    )


def case_of(way: Way, samples: npt.NDArray[np.float64]) -> Case:
    """A case from its milliseconds, of shape (runs,)."""
    kept = samples
    if len(samples) > SAMPLES:
        # Not every n-th: the frames come round again, and some would never be among them.
        kept = samples[np.sort(np.random.default_rng(0).choice(len(samples), SAMPLES, replace=False))]
    latency = summary(samples, way.batch)
    return Case(**dataclasses.asdict(way), latency=latency, samples=tuple(np.round(kept, 4).tolist()))
