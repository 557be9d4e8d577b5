"""Write a benchmark as text, and make the tables that the text and the page share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge.utils.system import describe_throttling
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fer_edge.bench.conditions import Condition, Environment
    from fer_edge.bench.results import CaseId, Profile, Report, SustainedLoad

LATENCY_HEAD = ("milliseconds", "min", "median", "p95", "p99", "st. dev.", "per second", "ratio")
STARTUP_HEAD = (
    "at a start, ms",
    "import",
    "load",
    "face",
    "detector",
    "frame",
    "MB, face",
    "MB, frame",
)
OPERATOR_HEAD = ("operator", "M multiply-adds", "own ms", "until ms")


def as_text(report: Report) -> str:
    """Return a report as lines of text and tables."""
    lines = [*list_facts(report), *align_columns(LATENCY_HEAD, latency_rows(report))]
    if report.starts:
        lines += align_columns(STARTUP_HEAD, startup_rows(report))
    if report.sustained:
        lines.append(describe_sustained(report.sustained))
    for profile in report.profiles:
        lines.append(f"{profile.model}: {profile.method}")
        rows = operator_rows(profile)
        lines += align_columns(OPERATOR_HEAD, rows) if rows else []
    return "\n".join([*lines, *(f"warning: {warning}" for warning in report.warnings)])


def align_columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table: the first column aligned left, the others right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]


def list_facts(report: Report) -> list[str]:
    """Return the environment, the models and the settings as lines."""
    environment, settings = report.environment, report.settings
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    if settings.runs:
        limit = f"{counted(settings.runs, 'run')} of each case"
    else:
        limit = f"{settings.seconds:g} s for each case"
    processors = f"{environment.allowed} of {counted(environment.cores, 'processor')}"
    threads = counted(environment.opencv_threads, "OpenCV thread")
    return [
        f"{environment.machine}, {processors}{_describe_quota(environment)}, {_describe_governor(environment)}",
        (
            f"before: {_describe_condition(environment.before)}; after: {_describe_condition(environment.after)};"
            f" other programs took {_describe_share(environment.others)}"
        ),
        (
            f"{environment.runtime}, {versions}; {environment.system}, Linux {environment.kernel},"
            f" {environment.architecture}"
        ),
        *(
            f"{model.name}: {model.path} (sha256 {model.sha256[:12]}), {model.bytes / 1e3:.0f} kB,"
            f" {_describe_accuracy(model.accuracy, model.accuracy_of)}; XNNPACK {model.delegate}"
            for model in report.models
        ),
        (
            f"frames of {settings.frame[0]}x{settings.frame[1]} with {settings.faces} faces on average,"
            f" of which {settings.found} are found; {settings.detector} detector (sha256"
            f" {settings.detector_sha256[:12]}), {threads}; {limit}, in turns of {settings.turn}"
        ),
    ]


def latency_rows(report: Report) -> list[tuple[str, ...]]:
    """Return a row for each case; its ratio is to the median of the first model with the same configuration."""
    first = {_without_model(case.id): case.latency.median for case in reversed(report.cases)}
    several = len(report.models) > 1
    return [
        (
            str(case.id),
            *(f"{value:.3f}" for value in (case.latency.min, case.latency.median, case.latency.p95, case.latency.p99)),
            f"{case.latency.standard_deviation:.3f}",
            f"{case.latency.per_second:.1f}",
            f"{case.latency.median / first[_without_model(case.id)]:.2f}" if several and case.model else "",
        )
        for case in report.cases
    ]


def startup_rows(report: Report) -> list[tuple[str, ...]]:
    """Return a row for each model with the costs of a start."""
    return [
        (
            f"{cost.model}, {counted(cost.processes, 'start')}",
            *(
                f"{ms:.1f}"
                for ms in (cost.import_ms, cost.load_ms, cost.first_run_ms, cost.detector_ms, cost.first_frame_ms)
            ),
            f"{cost.classifier_peak_mb:.1f}",
            f"{cost.peak_mb:.1f}",
        )
        for cost in report.starts
    ]


def operator_rows(profile: Profile) -> list[tuple[str, ...]]:
    """Return a row for each operator of a model."""
    return [
        (each.kind, f"{each.multiply_adds / 1e6:.2f}", f"{each.own_ms:.3f}", f"{each.until_ms:.3f}")
        for each in profile.operators
    ]


def describe_sustained(work: SustainedLoad) -> str:
    """Return the result of sustained work in a sentence."""
    last = work.stretches[-1]
    frames = sum(stretch.frames for stretch in work.stretches)
    return (
        f"{work.case}, sustained for {last.seconds:.0f} s: {frames} frames; in the last tenth a frame took"
        f" {work.drift:.2f} times as long as in the first; at the end {_describe_condition(last.condition)}"
    )


def _without_model(case_id: CaseId) -> tuple[object, ...]:
    return case_id.job, case_id.threads, case_id.xnnpack, case_id.batch


def _describe_quota(environment: Environment) -> str:
    return "" if environment.quota is None else f", limited to the time of {environment.quota:g}"


def _describe_governor(environment: Environment) -> str:
    return f"governor {environment.governor}" if environment.governor else "governor unknown"


def _describe_condition(condition: Condition) -> str:
    parts = [f"load {condition.load:g}"]
    if condition.clock_mhz is not None:
        parts.append(f"{condition.clock_mhz:.0f} MHz")
    temperature = condition.temperature_c
    parts.append("temperature unknown" if temperature is None else f"{temperature:.1f} degrees C")
    if condition.throttled:
        parts.append(", ".join(describe_throttling(condition.throttled)))
    return ", ".join(parts)


def _describe_share(share: float | None) -> str:
    return "an unknown share of the processor time" if share is None else f"{share:.0%} of the processor time"


def _describe_accuracy(accuracy: float | None, name: str) -> str:
    return "no accuracy on its card" if accuracy is None else f"{name} {accuracy:.2%}"
