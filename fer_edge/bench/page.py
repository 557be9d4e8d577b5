"""A benchmark for people: a text, and one HTML page that needs no other file."""

from __future__ import annotations

import html
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from fer_edge.errors import InputError
from fer_edge.reports.html import page, table
from fer_edge.reports.svg_plot import Series, plot
from fer_edge.utils.system import THROTTLED_NOW, describe_throttling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.bench.results import Case, Condition, Environment, Profile, Report, Sustained, Way

_HEAD = ("milliseconds", "min", "median", "p95", "p99", "st. dev.", "per second", "ratio")
_STARTS = ("once, ms", "import", "load", "first face", "detector", "first frame", "peak MB, face", "peak MB, frame")
_OPERATORS = ("operator", "M multiply-adds", "own ms", "until ms")
_SWEEPS = (
    ("classifier", "threads", "threads", "median, ms a face"),
    ("classifier", "batch", "faces an invocation", "median, ms a face"),
    ("whole_frame", "threads", "threads", "median, ms a frame"),
)


def as_text(report: Report) -> str:
    """A report in lines, with a table in the middle."""
    lines = [*_facts(report), *columns(_HEAD, _rows(report))]
    if report.starts:
        lines += columns(_STARTS, _start_rows(report))
    if report.sustained:
        lines.append(_sustained(report.sustained))
    for profile in report.profiles:
        lines.append(f"{profile.model}: {profile.how}")
        rows = _operator_rows(profile)
        lines += columns(_OPERATORS, rows) if rows else []
    return "\n".join([*lines, *(f"warning: {warning}" for warning in report.warnings)])


def as_html(report: Report) -> str:
    """A report as a page with plots."""
    warned = "".join(f"<p><b>Warning:</b> {html.escape(line)}.</p>" for line in report.warnings)
    body = [f"<pre>{_escaped_facts(report)}</pre>{warned}<h2>Latency</h2>{table(_HEAD, _rows(report))}"]
    body += [f"<h3>{job.replace('_', ' ')}</h3>{_distributions(cases)}" for job, cases in _by_job(report).items()]
    for job, over, label, unit in _SWEEPS:
        if sweep := _sweep(report, job, over):
            body.append(f"<h2>{job.replace('_', ' ').capitalize()} by {label}</h2>{plot(sweep, label, unit)}")
    if report.starts:
        body.append(f"<h2>Once a process</h2>{table(_STARTS, _start_rows(report))}")
    if any(model.accuracy is not None for model in report.models):
        body.append(f"<h2>Accuracy and latency</h2>{pareto(report)}")
    if report.sustained:
        body.append(f"<h2>Sustained work</h2><p>{html.escape(_sustained(report.sustained))}</p>")
        body.append(_sustained_plots(report.sustained))
    for profile in report.profiles:
        rows = _operator_rows(profile)
        body.append(
            f"<h2>Operators of {html.escape(profile.model)}</h2><p>{html.escape(profile.how)}.</p>"
            f"{table(_OPERATORS, rows)}"
        )
    return page(f"fer-edge bench: {report.environment.machine}", "".join(body))


def pareto(report: Report) -> str:
    """An SVG image of the models' accuracy against their latency, one face at a time, in the first way measured.

    Raises:
        InputError: no model that was measured has an accuracy on its card, or none was measured alone.
    """
    series = []
    measures = set()
    for model in report.models:
        case = next((case for case in report.cases if case.job == "classifier" and case.model == model.name), None)
        if case is None or model.accuracy is None:
            continue
        measures.add(model.accuracy_of)
        one = case.latency.median / case.batch
        label = f"{model.name}: {model.accuracy:.2%}, {one:.3f} ms ({model.accuracy_of})"
        series.append(Series(label, [(one, 100 * model.accuracy)], line=False))
    if not series:
        raise InputError("no model has an accuracy on its card; `fer-edge convert --data` measures it")
    points = [point for one in series for point in one.points]
    best = [(x, y) for x, y in points if not any((a <= x and b >= y and (a, b) != (x, y)) for a, b in points)]
    if len(best) > 1:
        series.append(Series("neither slower nor less accurate than another", sorted(best)))
    measured = measures.pop() if len(measures) == 1 else "accuracy by different measures"
    return plot(series, "median, ms a face", f"{measured}, %", from_zero=False)


def pareto_page(report: Report, *, svg: bool) -> str:
    """That image by itself, or as a page; raises as `pareto` does."""
    drawn = pareto(report)
    return drawn if svg else page("Accuracy and latency", f"{drawn}<pre>{_escaped_facts(report)}</pre>")


def _escaped_facts(report: Report) -> str:
    return html.escape("\n".join(_facts(report)))


def _facts(report: Report) -> list[str]:
    at, settings = report.environment, report.settings
    versions = ", ".join(f"{name} {version}" for name, version in at.versions.items())
    limit = f"{settings.runs} runs" if settings.runs else f"{settings.seconds:g} s a case"
    return [
        f"{at.machine}, {at.allowed} of {at.cores} processors{_quota(at)}, {_governor(at)}",
        f"before: {_condition(at.before)}; after: {_condition(at.after)}; others took {_share(at.others)}",
        f"{at.runtime}, {versions}; {at.system}, Linux {at.kernel}, {at.architecture}",
        *(
            f"{model.name}: {model.path} (sha256 {model.sha256[:12]}), {model.bytes / 1e3:.0f} kB,"
            f" {_accuracy(model.accuracy, model.accuracy_of)}; XNNPACK {model.delegate}"
            for model in report.models
        ),
        (
            f"frames of {settings.frame[0]}x{settings.frame[1]} with {settings.faces} faces on average,"
            f" {settings.found} found; {settings.detector} detector (sha256 {settings.detector_sha256[:12]}),"
            f" {at.opencv_threads} OpenCV threads; {limit}, by turns of {settings.turn}"
        ),
    ]


def _quota(at: Environment) -> str:
    return "" if at.quota is None else f" with {at.quota:g} processors' time"


def _governor(at: Environment) -> str:
    return f"governor {at.governor}" if at.governor else "governor unknown"


def _condition(one: Condition) -> str:
    parts = [f"load {one.load:g}"]
    if one.clock_mhz is not None:
        parts.append(f"{one.clock_mhz:.0f} MHz")
    parts.append("temperature unknown" if one.temperature_c is None else f"{one.temperature_c:.1f} degrees C")
    if one.throttled:
        parts.append(", ".join(describe_throttling(one.throttled)))
    return ", ".join(parts)


def _share(share: float | None) -> str:
    return "an unknown share of the processors" if share is None else f"{share:.0%} of the processors"


def _accuracy(accuracy: float | None, of: str) -> str:
    return "no accuracy on its card" if accuracy is None else f"{of} {accuracy:.2%}"


def _rows(report: Report) -> list[tuple[str, ...]]:
    """A row a case; its ratio is to the first model's median in the same way, a face or frame."""
    first = {_without_model(case.way): case.latency.median for case in reversed(report.cases)}
    several = len(report.models) > 1
    return [
        (
            str(case.way),
            *(f"{value:.3f}" for value in (case.latency.min, case.latency.median, case.latency.p95, case.latency.p99)),
            f"{case.latency.standard_deviation:.3f}",
            f"{case.latency.per_second:.1f}",
            f"{case.latency.median / first[_without_model(case.way)]:.2f}" if several and case.model else "",
        )
        for case in report.cases
    ]


def _without_model(way: Way) -> tuple[object, ...]:
    return way.job, way.threads, way.xnnpack, way.batch


def _start_rows(report: Report) -> list[tuple[str, ...]]:
    return [
        (
            f"{one.model}, {one.processes} process{'es' * (one.processes > 1)}",
            *(
                f"{ms:.1f}"
                for ms in (one.import_ms, one.load_ms, one.first_run_ms, one.detector_ms, one.first_frame_ms)
            ),
            f"{one.classifier_peak_mb:.1f}",
            f"{one.peak_mb:.1f}",
        )
        for one in report.starts
    ]


def _operator_rows(profile: Profile) -> list[tuple[str, ...]]:
    return [
        (one.kind, f"{one.multiply_adds / 1e6:.2f}", f"{one.own_ms:.3f}", f"{one.until_ms:.3f}")
        for one in profile.operators
    ]


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, the first column to the left and the others to the right."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    return [
        "  ".join(
            cell.ljust(wide) if at == 0 else cell.rjust(wide)
            for at, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


def _sustained(work: Sustained) -> str:
    last = work.moments[-1]
    frames = sum(moment.frames for moment in work.moments)
    return (
        f"{work.way}, sustained for {last.seconds:.0f} s: {frames} frames, the last tenth took {work.drift:.2f} times"
        f" as long a frame as the first; at the end {_condition(last.condition)}"
    )


def _by_job(report: Report) -> dict[str, list[Case]]:
    jobs = defaultdict[str, list["Case"]](list)
    for case in report.cases:
        jobs[case.job].append(case)
    return jobs


def _distributions(cases: list[Case]) -> str:
    """Which share of the runs took no longer than how long, but for the slowest hundredth."""
    shares = np.linspace(0, 99, 100)
    series = [
        Series(str(case.way), list(zip(np.percentile(case.samples, shares).tolist(), shares.tolist(), strict=True)))
        for case in cases
    ]
    return plot(series, "milliseconds", "% of the runs took no longer")


def _sweep(report: Report, job: str, over: str) -> list[Series]:
    """Medians of a job by one property of its cases, in lines of those that are alike else; empty for one value."""
    lines = defaultdict[str, list[tuple[float, float]]](list)
    for case in report.cases:
        if case.job == job:
            parts = [case.model] if case.xnnpack else [case.model, "no XNNPACK"]
            parts += [f"{name} {getattr(case, name)}" for name in ("threads", "batch") if name != over]
            lines[", ".join(parts)].append((getattr(case, over), case.latency.median / case.batch))
    return [Series(name, sorted(points)) for name, points in lines.items() if len(points) > 1]


def _sustained_plots(work: Sustained) -> str:
    drawn = plot([Series(work.way, [(one.seconds, one.median) for one in work.moments])], "seconds", "median, ms")
    for label, name in (("degrees C", "temperature_c"), ("MHz", "clock_mhz")):
        points = [(one.seconds, value) for one in work.moments if (value := getattr(one.condition, name)) is not None]
        if points:
            drawn += plot([Series(label, points)], "seconds", label, from_zero=False)
    throttled = [
        (one.seconds, flags) for one in work.moments if (flags := (one.condition.throttled or 0) & THROTTLED_NOW)
    ]
    if throttled:
        seconds, flags = throttled[0]
        what = ", ".join(describe_throttling(flags))
        drawn += f"<p>At {seconds:.0f} s the firmware told of {what} for the first time.</p>"
    return drawn
