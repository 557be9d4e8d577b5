"""The report of a detector's training: one HTML page with curves, recall by size and the worst errors, and JSON."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from matplotlib.figure import Figure

from fer_edge.reports.html import data_url, face_figure, render
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.faces.detector_validation import FALSE_ALARMS, MIN_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from fer_edge.detection.metrics import Matches
    from fer_edge_train.faces.detector_evaluation import DetectorComparison, DetectorEvaluation

SIZES: Final = ((0.0, 20.0), (20.0, 32.0), (32.0, 64.0), (64.0, np.inf))


def write_detector_report(
    out: Path,
    title: str,
    evaluation: DetectorEvaluation,
    comparisons: Sequence[DetectorComparison],
    history: list[dict[str, float]],
) -> None:
    """Write ``report/index.html``, which needs no other file, and ``report/report.json``.

    Args:
        out: folder of the run, with ``recipe.toml``.
        title: title of the page.
        evaluation: results on the validation images.
        comparisons: with another detector, if there is one.
        history: scores of each epoch.
    """
    matches, folder = evaluation.matches, out / "report"
    threshold = matches.threshold_at(FALSE_ALARMS)
    sizes = {
        f"{low:.0f} and more" if high == np.inf else f"{low:.0f} to {high:.0f}": (
            int(((matches.sides >= low) & (matches.sides < high)).sum()),
            matches.recall(threshold, low, high),
        )
        for low, high in SIZES
    }
    report = {
        "images": matches.images,
        "faces": len(matches.face_scores),
        "average_precision": matches.average_precision(),
        f"average_precision_from_{MIN_SIDE:.0f}_pixels": matches.average_precision(MIN_SIDE),
        "threshold": threshold,
        "false_alarms_an_image": FALSE_ALARMS,
        "recall_by_size": {name: {"faces": count, "recall": recall} for name, (count, recall) in sizes.items()},
        "compared": list(comparisons),
        "history": history,
    }
    with replacing(folder / "report.json") as temporary:
        # NaN, for a size without faces, becomes null.
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    large = f"faces of {MIN_SIDE:.0f} pixels and more"
    precision = f"{matches.average_precision(MIN_SIDE):.4f} on {large}, {matches.average_precision():.4f} on all"
    page = render(
        "detector_training.html",
        title=title,
        summary=f"{matches.images} images, {len(matches.face_scores)} faces. Average precision {precision}.",
        false_alarms=FALSE_ALARMS,
        threshold=f"{threshold:.3f}",
        sizes=[(name, count, f"{recall:.1%}") for name, (count, recall) in sizes.items()],
        large_faces=large,
        compared=[
            (one.threshold, f"{one.false_positives_per_image:.4f}", f"{one.recall:.1%}", f"{one.own_recall:.1%}")
            for one in comparisons
        ],
        curves=data_url(_to_png(_plot_curves(matches, history))),
        misses=[face_figure(image, "a missed face") for image in evaluation.misses(threshold)],
        alarms=[face_figure(image, "a false alarm", (f"{score:.2f}",)) for score, image in evaluation.false_alarms()],
        recipe=(out / "recipe.toml").read_text(encoding="utf-8"),
    )
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _plot_curves(matches: Matches, history: list[dict[str, float]]) -> Figure:
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    precision, loss, scores = figure.subplots(1, 3)
    found_scores = matches.face_scores[np.isfinite(matches.face_scores)]
    thresholds = np.unique(np.concatenate((found_scores, matches.false_positives)))
    for low, high in SIZES:
        chosen = (matches.sides >= low) & (matches.sides < high)
        hits = np.sort(matches.face_scores[chosen])
        found = len(hits) - np.searchsorted(hits, thresholds)
        false = len(matches.false_positives) - np.searchsorted(np.sort(matches.false_positives), thresholds)
        label = f"{low:.0f} to {high:.0f} pixels" if np.isfinite(high) else f"{low:.0f} pixels and more"
        precision.plot(found / max(len(hits), 1), found / np.maximum(found + false, 1), label=label)
    precision.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1), title="validation images")
    loss.plot([row["epoch"] for row in history], [row["loss"] for row in history])
    loss.set(xlabel="epoch", title="loss (augmented)")
    for key, label in (("val_average_precision", "average precision"), ("val_recall", "recall")):
        rows = [row for row in history if key in row]
        scores.plot([row["epoch"] for row in rows], [row[key] for row in rows], label=label)
    scores.set(xlabel="epoch", title=f"faces of {MIN_SIDE:.0f} pixels and more", ylim=(0, 1))
    for axes in (precision, scores):
        axes.legend(fontsize=8)
    for axes in (precision, loss, scores):
        axes.grid(alpha=0.3)
    return figure


def _to_png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
