"""Make an HTML page of a benchmark."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fer_edge.bench.pareto import plot_pareto
from fer_edge.bench.text import (
    LATENCY_HEAD,
    OPERATOR_HEAD,
    STARTUP_HEAD,
    describe_sustained,
    latency_rows,
    list_facts,
    operator_rows,
    startup_rows,
)
from fer_edge.reports.html import render
from fer_edge.reports.svg_plot import Series, plot
from fer_edge.utils.system import THROTTLED_NOW, describe_throttling

if TYPE_CHECKING:
    from fer_edge.bench.results import Case, Report, SustainedLoad

_SWEEPS = (  # workload, property of its cases, label of the property, unit
    ("classifier", "threads", "threads", "median, ms a face"),
    ("classifier", "batch", "faces an invocation", "median, ms a face"),
    ("whole_frame", "threads", "threads", "median, ms a frame"),
)


def as_html(report: Report) -> str:
    """Return a report as a page with tables and plots."""
    has_accuracy = any(model.accuracy is not None for model in report.models)
    return render(
        "bench.html",
        title=f"fer-edge bench: {report.environment.machine}",
        headline=_headline(report),
        facts="\n".join(list_facts(report)),
        warnings=report.warnings,
        latency={"head": LATENCY_HEAD, "rows": latency_rows(report)},
        distributions=_plot_distributions(report),
        sweeps=_plot_sweeps(report),
        starts={"head": STARTUP_HEAD, "rows": startup_rows(report)},
        pareto=plot_pareto(report) if has_accuracy else None,
        sustained=_describe_sustained(report.sustained) if report.sustained else None,
        profiles=[
            {"model": profile.model, "method": profile.method, "head": OPERATOR_HEAD, "rows": operator_rows(profile)}
            for profile in report.profiles
        ],
    )


def _headline(report: Report) -> str:
    """Say how long each kind of work takes, in the first configuration that was measured."""
    first: dict[tuple[str, str], Case] = {}
    for case in report.cases:
        first.setdefault((case.job, case.model), case)
    medians = [f"{case.id} {case.latency.median:.1f} ms" for case in first.values()]
    return f"Medians: {'; '.join(medians)}."


def _plot_distributions(report: Report) -> list[dict[str, str]]:
    workloads = defaultdict[str, list["Case"]](list)
    for case in report.cases:
        workloads[case.job].append(case)
    return [{"title": job.replace("_", " "), "plot": _plot_distribution(cases)} for job, cases in workloads.items()]


def _plot_distribution(cases: list[Case]) -> str:
    """Plot the cumulative distribution of the times, without the slowest hundredth."""
    shares = np.linspace(0, 99, 100)
    series = [
        Series(str(case.id), list(zip(np.percentile(case.samples, shares).tolist(), shares.tolist(), strict=True)))
        for case in cases
    ]
    return plot(series, "milliseconds", "% of the runs took no longer")


def _plot_sweeps(report: Report) -> list[dict[str, str]]:
    sweeps = []
    for job, name, label, unit in _SWEEPS:
        if series := _sweep(report, job, name):
            title = f"{job.replace('_', ' ').capitalize()} by {label}"
            sweeps.append({"title": title, "plot": plot(series, label, unit)})
    return sweeps


def _sweep(report: Report, job: str, name: str) -> list[Series]:
    """Return the medians of a workload over one property of its cases.

    Returns:
        A line for each group of cases that differ in this property only; none if it has a single value.
    """
    lines = defaultdict[str, list[tuple[float, float]]](list)
    for case in report.cases:
        if case.job == job:
            parts = [case.model] if case.xnnpack else [case.model, "no XNNPACK"]
            parts += [f"{other} {getattr(case, other)}" for other in ("threads", "batch") if other != name]
            lines[", ".join(parts)].append((getattr(case, name), case.latency.median / case.batch))
    return [Series(label, sorted(points)) for label, points in lines.items() if len(points) > 1]


def _describe_sustained(work: SustainedLoad) -> dict[str, Any]:
    times = [(stretch.seconds, stretch.median) for stretch in work.stretches]
    plots = [plot([Series(work.case, times)], "seconds", "median, ms")]
    for label, name in (("degrees C", "temperature_c"), ("MHz", "clock_mhz")):
        values = [(stretch.seconds, getattr(stretch.condition, name)) for stretch in work.stretches]
        points = [(seconds, value) for seconds, value in values if value is not None]
        if points:
            plots.append(plot([Series(label, points)], "seconds", label, from_zero=False))
    throttled = ""
    for stretch in work.stretches:
        if flags := (stretch.condition.throttled or 0) & THROTTLED_NOW:
            throttled = (
                f"The firmware first reported {', '.join(describe_throttling(flags))} at {stretch.seconds:.0f} s."
            )
            break
    return {"text": describe_sustained(work), "plots": plots, "throttled": throttled}
