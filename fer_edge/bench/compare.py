"""Compare two benchmarks: which changes are larger than the noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import numpy as np

from fer_edge.bench.text import align_columns
from fer_edge.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.bench.results import Case, CaseId, Report

_RESAMPLES: Final = 1000
_RESAMPLES_AT_ONCE: Final = 100  # limits the memory
_BLOCKS: Final = 10
_PERCENTILES: Final = (2.5, 97.5)
_MIN_RUNS: Final = 20  # with fewer, a block is a single run

Verdict = Literal["slower", "faster", "no change beyond the noise"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The change of one case.

    Attributes:
        case: the case, in words.
        old: median before, in milliseconds.
        new: median now, in milliseconds.
        ratio: ratio of the medians, new to old.
        interval: 95 % confidence interval of the ratio.
        verdict: the result in words; it depends on whether the interval contains 1.
        regression: whether the whole interval exceeds the tolerance.
    """

    case: str
    old: float
    new: float
    ratio: float
    interval: tuple[float, float]
    verdict: Verdict
    regression: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison of two benchmarks.

    Attributes:
        tolerance: share by which a median may grow.
        changes: the changes of the cases that both contain.
        notes: what the reader should know about the comparison.
    """

    tolerance: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The cases that got slower by more than the tolerance."""
        return tuple(change for change in self.changes if change.regression)


def compare_reports(old: Report, new: Report, *, tolerance: float = 0.05, anyway: bool = False) -> Comparison:
    """Compare two benchmarks.

    Args:
        old: the benchmark before.
        new: the benchmark after.
        tolerance: share by which a median may grow. Some per cent depend on the memory layout of a single process.
        anyway: whether to compare benchmarks from different machines, runtimes or settings.

    Raises:
        InputError: the conditions differ and ``anyway`` is not set, or there is no common case.
    """
    different = differences(old, new)
    if different and not anyway:
        raise InputError(f"not the same conditions: {'; '.join(different)}; --anyway compares them all the same")
    before, after = _cases_by_id(old, new)
    common = [case_id for case_id in before if case_id in after]
    if not common:
        raise InputError("the two results have no case in common: measure the same models, threads and batches")
    changes = tuple(_compare_case(case_id, before[case_id], after[case_id], tolerance) for case_id in common)
    missing = [
        f"only in one of them: {case_id}" for case_id in (*before, *after) if (case_id in before) != (case_id in after)
    ]
    notes = [*different, *_note_other_files(old, new), *missing]
    if old.settings.found != new.settings.found:
        notes.append(
            f"faces found in a frame: {old.settings.found:g}, then {new.settings.found:g}; not the same amount of work"
        )
    for name, report in (("old", old), ("new", new)):
        notes += [f"{name}: {warning}" for warning in report.warnings]
    return Comparison(tolerance=tolerance, changes=changes, notes=tuple(notes))


def as_text(comparison: Comparison) -> str:
    """Return a comparison as lines of text."""
    head = ("median, ms", "old", "new", "ratio", "95 % interval", "")
    rows = [
        (
            change.case,
            f"{change.old:.3f}",
            f"{change.new:.3f}",
            f"{change.ratio:.3f}",
            f"{change.interval[0]:.3f} to {change.interval[1]:.3f}",
            change.verdict + (f", by more than {comparison.tolerance:.0%}" if change.regression else ""),
        )
        for change in comparison.changes
    ]
    return "\n".join([*align_columns(head, rows), *(f"note: {note}" for note in comparison.notes)])


def differences(old: Report, new: Report) -> list[str]:
    """Return the differences that make two benchmarks incomparable, in words."""
    first, second = old.environment, new.environment
    pairs = {
        "machine": (first.machine, second.machine),
        "processor": (first.cpu, second.cpu),
        "processors allowed": (first.allowed, second.allowed),
        "processor time allowed": (first.quota, second.quota),
        "governor": (first.governor, second.governor),
        "runtime": (first.runtime, second.runtime),
        "OpenCV": (first.versions.get("opencv"), second.versions.get("opencv")),
        "OpenCV threads": (first.opencv_threads, second.opencv_threads),
        "Python": (first.versions.get("python"), second.versions.get("python")),
        "detector": (old.settings.detector, new.settings.detector),
        "smallest face": (old.settings.min_face, new.settings.min_face),
        "frame": (old.settings.frame, new.settings.frame),
        "faces in a frame": (old.settings.faces, new.settings.faces),
    }
    return [f"{name} {before}, then {after}" for name, (before, after) in pairs.items() if before != after]


def ratio_interval(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Return a 95 % confidence interval of the ratio of two medians, new to old.

    It comes from a circular block bootstrap (Politis & Romano 1992) with blocks of a tenth of the runs. The time of a
    run depends on that of the run before, so resampling single runs would make the interval far too narrow. The
    interval does not contain the variation between processes; that is what a tolerance is for.

    Args:
        old: milliseconds of the runs, in order, of shape (runs,).
        new: the same of the new benchmark; the number of runs may differ.
        seed: seed of the bootstrap.
    """
    generator = np.random.default_rng(seed)
    ratios = _resample_medians(new, generator) / _resample_medians(old, generator)
    low, high = np.percentile(ratios, _PERCENTILES)
    return float(low), float(high)


def _resample_medians(samples: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    runs = len(samples)
    length = max(runs // _BLOCKS, 1)
    offsets = np.arange(length)
    medians = []
    for _ in range(_RESAMPLES // _RESAMPLES_AT_ONCE):
        starts = generator.integers(0, runs, (_RESAMPLES_AT_ONCE, -(-runs // length), 1))
        rows = ((starts + offsets) % runs).reshape(_RESAMPLES_AT_ONCE, -1)[:, :runs]
        medians.append(np.median(samples[rows], axis=1))
    return np.concatenate(medians)


def _compare_case(case_id: CaseId, old: Case, new: Case, tolerance: float) -> Change:
    if min(len(old.samples), len(new.samples)) < _MIN_RUNS:
        raise InputError(f"{case_id}: too few runs to compare; measure with --runs {_MIN_RUNS} or more")
    before, after = (np.array(case.samples) for case in (old, new))
    low, high = ratio_interval(before, after)
    verdict: Verdict = "slower" if low > 1 else "faster" if high < 1 else "no change beyond the noise"
    return Change(
        case=str(case_id),
        old=old.latency.median,
        new=new.latency.median,
        ratio=round(float(np.median(after) / np.median(before)), 4),
        interval=(round(low, 4), round(high, 4)),
        verdict=verdict,
        regression=low > 1 + tolerance,
    )


def _cases_by_id(old: Report, new: Report) -> tuple[dict[CaseId, Case], dict[CaseId, Case]]:
    """Return the cases of both by their ids; if each has a single model, the two models count as the same."""
    before, after = ({case.id: case for case in report.cases} for report in (old, new))
    if len(old.models) == len(new.models) == 1:
        name = old.models[0].name
        after = {
            dataclasses.replace(case_id, model=name) if case_id.model else case_id: case
            for case_id, case in after.items()
        }
    return before, after


def _note_other_files(old: Report, new: Report) -> list[str]:
    """Return a note for each model and detector that is compared with another file."""
    if len(old.models) == len(new.models) == 1:
        pairs = [(old.models[0].name, old.models[0].sha256, new.models[0].name, new.models[0].sha256)]
    else:
        hashes = {model.name: model.sha256 for model in new.models}
        pairs = [(model.name, model.sha256, model.name, hashes.get(model.name, model.sha256)) for model in old.models]
    first, second = old.settings, new.settings
    pairs.append(
        (f"{first.detector} detector", first.detector_sha256, f"{second.detector} detector", second.detector_sha256)
    )
    return [
        f"{name} ({sha256[:12]}) is compared with {other} ({other_sha256[:12]}): another file"
        for name, sha256, other, other_sha256 in pairs
        if sha256 != other_sha256
    ]
