"""Take a benchmark: the cases in turns, fresh processes, operators and sustained work."""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from statistics import median
from typing import TYPE_CHECKING, Final

from fer_edge.bench.cold_start import measure_start
from fer_edge.bench.environment import EnvironmentMonitor, warnings
from fer_edge.bench.interleave import interleave, make_case
from fer_edge.bench.profile import profile
from fer_edge.bench.results import Report, StartupCost
from fer_edge.bench.sustained import sustain
from fer_edge.bench.workloads import Workloads
from fer_edge.errors import FerEdgeError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fer_edge.bench.conditions import Settings
    from fer_edge.bench.options import BenchOptions

_PROFILE_RUNS: Final = 50
_MIN_FOUND: Final = 0.8  # of the faces in the frames


def benchmark(options: BenchOptions, on_progress: Callable[[str], None] = lambda _: None) -> Report:
    """Take a benchmark on frames of the demo video.

    Args:
        options: what to measure.
        on_progress: called with the name of each step when it begins.

    Raises:
        ModelError: a model is missing or damaged, or cannot take as many faces at once as requested.
        InputError: the detector cannot be loaded, or a model is named twice.
        FerEdgeError: a fresh process crashed.
    """
    workloads = Workloads(options)
    settings, models = workloads.settings(), workloads.models()  # first, because files may change in hours
    monitor = EnvironmentMonitor()
    on_progress("start-up")
    paths = workloads.paths.items() if options.starts else ()
    starts = tuple(_measure_starts(path, name, options) for name, path in paths)
    on_progress("latency")
    samples = interleave(list(workloads.functions.values()), options.runs, options.seconds)
    cases = tuple(make_case(case_id, times) for case_id, times in zip(workloads.functions, samples, strict=True))
    profiles = []
    if options.profile:
        on_progress("operators")
        profiles = [
            profile(path, name, options.threads[0], min(options.runs, _PROFILE_RUNS), xnnpack=options.xnnpack[0])
            for name, path in workloads.paths.items()
        ]
    sustained = None
    if options.sustained is not None:
        on_progress("sustained work")
        case_id = next(case_id for case_id in workloads.functions if case_id.job == "whole_frame")
        sustained = sustain(workloads.functions[case_id], str(case_id), options.sustained)
    environment = monitor.environment()
    meanwhile = [stretch.condition for stretch in sustained.stretches] if sustained else []
    return Report(
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment,
        settings=settings,
        models=models,
        cases=cases,
        starts=starts,
        sustained=sustained,
        profiles=tuple(profiles),
        warnings=(*warnings(environment, cases, meanwhile), *_warn_of_missed_faces(settings)),
    )


def _warn_of_missed_faces(settings: Settings) -> list[str]:
    if settings.found >= _MIN_FOUND * settings.faces:
        return []
    faces = f"{settings.found:g} of {settings.faces:g} faces in a frame"
    return [f"the detector finds {faces}, which makes a whole frame less work than usual"]


def _measure_starts(model: Path, name: str, options: BenchOptions) -> StartupCost:
    """Measure fresh processes, with the first of the options' threads and delegates."""
    # A fork would share what this process has loaded already.
    context = multiprocessing.get_context("spawn")
    measure = functools.partial(
        measure_start,
        model,
        options.threads[0],
        xnnpack=options.xnnpack[0],
        detector=options.detector,
        detector_model=options.detector_model,
        min_face=options.min_face,
    )
    results = []
    for _ in range(options.starts):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            try:
                results.append(pool.submit(measure).result())
            except BrokenProcessPool as error:
                raise FerEdgeError(
                    f"{model}: a process that loads it was killed; is there too little memory?"
                ) from error
    medians = {key: round(median(result[key] for result in results), 3) for key in results[0]}
    return StartupCost(model=name, processes=options.starts, **medians)
