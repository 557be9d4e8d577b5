"""The page of `fer-edge evaluate`: accuracy, differences and confusion matrices of one or more classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fer_edge.classification.comparison import AccuracyChange, AccuracyDifference, BootstrapIntervals
from fer_edge.classification.metrics import Metrics
from fer_edge.errors import printable
from fer_edge.reports.html import render
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier on labelled faces.

    Attributes:
        model: name of its file.
        metrics: its metrics.
        interval: 95 % interval of its accuracy, 0..1.
        change: its accuracy less that of the first classifier; None for the first.
        agreement: share of the faces that get the same label as from the first, 0..1.
        bootstrap: intervals from resamples of the faces; None if they were not asked for.
    """

    model: str
    metrics: Metrics
    interval: tuple[float, float]
    change: AccuracyChange | None = None
    agreement: float = 1.0
    bootstrap: BootstrapIntervals | None = None


def write_confusion_page(path: Path, evaluations: Sequence[Evaluation], data: str) -> None:
    """Write the page.

    Args:
        path: the file to write, whole or not at all.
        evaluations: one or more classifiers on the same faces.
        data: which faces these are.
    """
    evaluations = [msgspec.structs.replace(one, model=printable(one.model)) for one in evaluations]
    names = [one.model for one in evaluations]
    page = render(
        "confusion.html",
        title=names[0] if len(names) == 1 else f"{len(names)} classifiers on the same faces",
        data=printable(data),
        models=[
            (
                one.model,
                f"{one.metrics.accuracy:.2%}",
                show_interval(one.interval),
                f"{one.metrics.macro_f1:.3f}",
                f"{one.metrics.ece:.3f}",
            )
            for one in evaluations
        ],
        first=names[0],
        changes=[
            (
                one.model,
                f"{one.change.points:+.2f}",
                show_change(one.change),
                one.change.gained,
                one.change.lost,
                one.change.verdict,
                f"{one.agreement:.1%}",
            )
            for one in evaluations
            if one.change
        ],
        matrices=[_matrix(one) for one in evaluations],
    )
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def show_interval(interval: tuple[float, float]) -> str:
    """Return an interval of shares as per cent, such as ``61.2 to 66.0 %``."""
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f} %"


def show_change(change: AccuracyChange | AccuracyDifference) -> str:
    """Return the interval of a difference in points, such as ``-0.31 to +1.20``."""
    low, high = change.interval
    return f"{low:+.2f} to {high:+.2f}"


def show_verdict(change: AccuracyChange, model: str, first: str) -> str:
    """Return what a difference says, in words."""
    verdict = {
        "better": f"better than {first}",
        "worse": f"worse than {first}",
        "not shown": f"not shown to be better or worse than {first}",
    }[change.verdict]
    return (
        f"{model} is {verdict}: {counted(change.gained, 'face')} only it gets right, {change.lost} only {first};"
        f" p = {change.p_value:.2g} (McNemar)"
    )


def _matrix(evaluation: Evaluation) -> dict[str, object]:
    labels = list(evaluation.metrics.classes)
    rows = []
    for label, counts in zip(labels, evaluation.metrics.confusion, strict=True):
        one, total = evaluation.metrics.classes[label], max(sum(counts), 1)
        cells = [
            {"count": count, "percent": round(100 * count / total), "right": name == label}
            for name, count in zip(labels, counts, strict=True)
        ]
        rows.append((label, cells, (f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", one.support)))
    return {"model": evaluation.model, "labels": labels, "rows": rows}
