"""What changed between two benchmarks beyond the noise."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Literal

import msgspec
import numpy as np

from fer_edge.bench.page import columns
from fer_edge.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.bench.results import Case, Report, Way

_RESAMPLES: Final = 1000
_AT_ONCE: Final = 100  # resamples, for the memory that they take
_BLOCKS: Final = 10
_LEVELS: Final = (2.5, 97.5)
_FEWEST: Final = 20  # runs; with fewer, blocks are single runs

Verdict = Literal["slower", "faster", "no change beyond the noise"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one case.

    Attributes:
        case: which one, in words.
        old: median before, in milliseconds.
        new: median now.
        ratio: of the medians, new over old.
        interval: of the ratio, 95 %.
        verdict: in words: whether the interval leaves out 1.
        regression: whether all of the interval is beyond what is tolerated.
    """

    case: str
    old: float
    new: float
    ratio: float
    interval: tuple[float, float]
    verdict: Verdict
    regression: bool


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two benchmarks side by side.

    Attributes:
        tolerance: what a median may grow by, as a share of it.
        changes: case by case, of the cases that are in both.
        notes: what to know before believing it.
    """

    tolerance: float
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> tuple[Change, ...]:
        """What became slower than is tolerated."""
        return tuple(change for change in self.changes if change.regression)


def compare(old: Report, new: Report, *, tolerance: float = 0.05, anyway: bool = False) -> Comparison:
    """Compare two benchmarks.

    Args:
        old: the one before.
        new: the one after.
        tolerance: what a median may grow by, as a share of it; how one process lies in memory makes some per cent.
        anyway: compare also what was measured on different machines, by different runtimes or in another way.

    Raises:
        InputError: they were measured on or with different things, and ``anyway`` is not set; or share no case.
    """
    apart = differences(old, new)
    if apart and not anyway:
        raise InputError(f"not the same conditions: {'; '.join(apart)}; with --anyway they are compared all the same")
    before, after = _by_way(old, new)
    both = [way for way in before if way in after]
    if not both:
        raise InputError("the two results have no case in common: measure the same models, threads and batches")
    changes = tuple(_change(way, before[way], after[way], tolerance) for way in both)
    missing = [f"only in one of them: {way}" for way in (*before, *after) if (way in before) != (way in after)]
    notes = [*apart, *_about_files(old, new), *missing]
    if old.settings.found != new.settings.found:
        notes.append(f"a frame's faces found {old.settings.found:g}, then {new.settings.found:g}: not the same work")
    for name, report in (("old", old), ("new", new)):
        notes += [f"{name}: {warning}" for warning in report.warnings]
    return Comparison(tolerance=tolerance, changes=changes, notes=tuple(notes))


def as_text(found: Comparison) -> str:
    """A comparison in lines."""
    head = ("median, ms", "old", "new", "ratio", "95 % interval", "")
    rows = [
        (
            change.case,
            f"{change.old:.3f}",
            f"{change.new:.3f}",
            f"{change.ratio:.3f}",
            f"{change.interval[0]:.3f} to {change.interval[1]:.3f}",
            change.verdict + (f", by more than {found.tolerance:.0%}" if change.regression else ""),
        )
        for change in found.changes
    ]
    return "\n".join([*columns(head, rows), *(f"note: {note}" for note in found.notes)])


def differences(old: Report, new: Report) -> list[str]:
    """What makes two benchmarks not comparable, in words; empty where nothing does."""
    first, second = old.environment, new.environment
    pairs = {
        "machine": (first.machine, second.machine),
        "processor": (first.cpu, second.cpu),
        "processors allowed": (first.allowed, second.allowed),
        "processors' time allowed": (first.quota, second.quota),
        "governor": (first.governor, second.governor),
        "runtime": (first.runtime, second.runtime),
        "OpenCV": (first.versions.get("opencv"), second.versions.get("opencv")),
        "OpenCV's threads": (first.opencv_threads, second.opencv_threads),
        "Python": (first.versions.get("python"), second.versions.get("python")),
        "detector": (old.settings.detector, new.settings.detector),
        "smallest face": (old.settings.min_face, new.settings.min_face),
        "frame": (old.settings.frame, new.settings.frame),
        "faces a frame": (old.settings.faces, new.settings.faces),
    }
    return [f"{name} {before}, then {after}" for name, (before, after) in pairs.items() if before != after]


def ratio_interval(old: npt.NDArray[np.float64], new: npt.NDArray[np.float64], seed: int = 0) -> tuple[float, float]:
    """Where the ratio of two medians lies, new over old, in 95 of 100 cases.

    By a circular block bootstrap (Politis & Romano 1992) whose blocks are a tenth of the runs: one run's time is like
    the one's before, so that single runs drawn at random would make the interval far too narrow.  What differs from
    process to process is not in it: that is what a tolerance is for.

    Args:
        old: milliseconds of the runs in their order, of shape (runs,).
        new: likewise, of another number of runs.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    ratios = _medians(new, generator) / _medians(old, generator)
    low, high = np.percentile(ratios, _LEVELS)
    return float(low), float(high)


def _medians(samples: npt.NDArray[np.float64], generator: np.random.Generator) -> npt.NDArray[np.float64]:
    runs = len(samples)
    length = max(runs // _BLOCKS, 1)
    within = np.arange(length)
    medians = []
    for _ in range(_RESAMPLES // _AT_ONCE):
        starts = generator.integers(0, runs, (_AT_ONCE, -(-runs // length), 1))
        rows = ((starts + within) % runs).reshape(_AT_ONCE, -1)[:, :runs]
        medians.append(np.median(samples[rows], axis=1))
    return np.concatenate(medians)


def _change(way: Way, old: Case, new: Case, tolerance: float) -> Change:
    if min(len(old.samples), len(new.samples)) < _FEWEST:
        raise InputError(f"{way}: too few runs to compare; measure with --runs {_FEWEST} or more")
    before, after = (np.array(case.samples) for case in (old, new))
    low, high = ratio_interval(before, after)
    verdict: Verdict = "slower" if low > 1 else "faster" if high < 1 else "no change beyond the noise"
    return Change(
        case=str(way),
        old=old.latency.median,
        new=new.latency.median,
        ratio=round(float(np.median(after) / np.median(before)), 4),
        interval=(round(low, 4), round(high, 4)),
        verdict=verdict,
        regression=low > 1 + tolerance,
    )


def _by_way(old: Report, new: Report) -> tuple[dict[Way, Case], dict[Way, Case]]:
    """The cases of each; where each has one model, it is the same one by whatever name."""
    before, after = ({case.way: case for case in report.cases} for report in (old, new))
    if len(old.models) == len(new.models) == 1:
        name = old.models[0].name
        after = {dataclasses.replace(way, model=name) if way.model else way: case for way, case in after.items()}
    return before, after


def _about_files(old: Report, new: Report) -> list[str]:
    """What is compared although it is not the same file."""
    if len(old.models) == len(new.models) == 1:
        pairs = [(old.models[0].name, old.models[0].sha256, new.models[0].name, new.models[0].sha256)]
    else:
        hashes = {model.name: model.sha256 for model in new.models}
        pairs = [(one.name, one.sha256, one.name, hashes.get(one.name, one.sha256)) for one in old.models]
    first, second = old.settings, new.settings
    pairs.append(
        (f"{first.detector} detector", first.detector_sha256, f"{second.detector} detector", second.detector_sha256)
    )
    return [
        f"{name} ({sha256[:12]}) is compared with {other} ({others[:12]}): another file"
        for name, sha256, other, others in pairs
        if sha256 != others
    ]
