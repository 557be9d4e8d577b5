"""What a training run leaves for people: one page with curves, errors and calibration, and the same as PNG and JSON."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from fer_edge.classification.metrics import Metrics, calibration_error, measure
from fer_edge.reports.html import data_url, render
from fer_edge.utils.atomic_file import replacing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.calibration import Calibration
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.split import Parts

_MISTAKES: Final = 24
_BINS: Final = 15


@dataclass(frozen=True, slots=True)
class Judged:
    """A model's answers for some faces.

    Attributes:
        rows: indices of the faces in their dataset, of shape (n,).
        scores: probabilities of shape (n, classes).
        metrics: how right they are.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    metrics: Metrics

    @classmethod
    def of(cls, scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], data: Dataset) -> Judged:
        """Compare scores for ``rows`` of a dataset with its classes."""
        return cls(rows, scores, measure(scores, data.classes[rows], data.labels))

    def mistakes(self, truth: npt.NDArray[np.int64]) -> list[int]:
        """Which of the answers are wrong, the most confident first, at most 24."""
        wrong = np.flatnonzero(self.scores.argmax(axis=1) != truth)
        return wrong[np.argsort(-self.scores[wrong].max(axis=1), kind="stable")][:_MISTAKES].tolist()  # type: ignore[no-any-return]

    def without(self, repeated: npt.NDArray[np.int64], data: Dataset) -> Judged | None:
        """The answers for faces that are not among ``repeated``, where there are any."""
        new = ~np.isin(self.rows, repeated)
        return Judged.of(self.scores[new], self.rows[new], data) if new.any() else None


def write_report(
    out: Path,
    data: Dataset,
    recipe: Recipe,
    parts: Parts,
    judged: dict[str, Judged],
    *,
    calibration: Calibration,
) -> None:
    """Write ``index.html``, which needs no other file, ``report.json`` and the images of the page as PNG.

    Args:
        out: folder of the run, with ``history.csv`` and ``recipe.toml``; the report goes to ``report`` in it.
        data: what was trained on.
        recipe: how.
        parts: which faces went where.
        judged: answers for the faces held out and, where there are any, tested on; the last is shown in full.
        calibration: what the scores went through.
    """
    folder = out / "report"
    shown, last = list(judged.items())[-1]
    truth = data.classes[last.rows]
    before = calibration.undone(last.scores)
    ece_before = {
        part: calibration_error(calibration.undone(one.scores), data.classes[one.rows]) for part, one in judged.items()
    }
    history = _history(out / "history.csv")
    fresh = {part: one.without(parts.repeated, data) for part, one in judged.items()}
    report = {
        "data": data.name,
        "labels": data.labels,
        "counts": {**{part: len(rows) for part, rows in parts.named().items()}, "skipped": len(data.skipped)},
        "faces_per_class": {
            part: np.bincount(data.classes[rows], minlength=len(data.labels)).tolist()
            for part, rows in parts.named().items()
        },
        "near_duplicates_of_training_faces": {
            part: int(np.isin(rows, parts.repeated).sum()) for part, rows in parts.named().items()
        },
        "left_out": data.left_out,
        "skipped": data.skipped,
        "temperature": calibration.temperature,
        "biases": dict(zip(data.labels, calibration.biases.tolist(), strict=True)),
        "ece_before_calibration": ece_before,
        "history": history,
        "most_confident_mistakes": [
            {"face": int(last.rows[i]), "score": float(last.scores[i].max()), **_names(last, truth, data, i)}
            for i in last.mistakes(truth)
        ],
        "results": {part: one.metrics for part, one in judged.items()},
        "results_without_near_duplicates": {part: one.metrics for part, one in fresh.items() if one},
    }
    with replacing(folder / "report.json") as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    figures = {
        "curves": _curves(history),
        "confusion": _confusion(last.metrics, data.labels),
        "mistakes": _mistakes(last, truth, data),
        "calibration": _calibration({"before it was fitted": before, "after": last.scores}, truth),
    }
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120)
    biases = zip(data.labels, calibration.biases.tolist(), strict=True)
    fitted = (
        f"Temperature {calibration.temperature:.3f}, biases {', '.join(f'{label} {b:+.2f}' for label, b in biases)}"
    )
    page = render(
        "training.html",
        title=recipe.summary,
        data=_describe_data(data, parts),
        results=[_describe_results(part, one.metrics, fresh[part], ece_before[part]) for part, one in judged.items()],
        images={name: data_url((folder / f"{name}.png").read_bytes()) for name in figures},
        shown=shown,
        calibration=fitted,
        recipe=(out / "recipe.toml").read_text(encoding="utf-8"),
    )
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _describe_data(data: Dataset, parts: Parts) -> dict[str, object]:
    rows = []
    for name, part in parts.named().items():
        counts = np.bincount(data.classes[part], minlength=len(data.labels)).tolist()
        rows.append((name, len(part), *counts, int(np.isin(part, parts.repeated).sum())))
    return {
        "text": f"{data.name}: {len(data)} faces; {len(data.skipped)} images cannot be read.",
        "head": ("part", "faces", *data.labels, "near-duplicates of training faces"),
        "rows": rows,
        "left_out": (*data.left_out, *data.skipped[:50]),
    }


def _describe_results(part: str, metrics: Metrics, fresh: Judged | None, ece_before: float) -> dict[str, object]:
    new = f"{fresh.metrics.accuracy:.2%} of {fresh.metrics.faces}" if fresh else "none"
    return {
        "name": part,
        "accuracy": f"{metrics.accuracy:.2%}",
        "text": (
            f"of {metrics.faces} right, macro F1 {metrics.macro_f1:.3f}; {new} that have no near-duplicate among the"
            f" training faces. Expected calibration error {ece_before:.3f} before calibration, {metrics.ece:.3f} after."
        ),
        "classes": [
            (label, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", one.support)
            for label, one in metrics.classes.items()
        ],
    }


def _names(judged: Judged, truth: npt.NDArray[np.int64], data: Dataset, i: int) -> dict[str, str]:
    return {"said": data.labels[judged.scores[i].argmax()], "label": data.labels[truth[i]]}


def _mistakes(judged: Judged, truth: npt.NDArray[np.int64], data: Dataset) -> Figure:
    figure = Figure(figsize=(9, 5))
    # Fixed places: a layout engine takes longer to find them than it takes to draw.
    grid = figure.add_gridspec(3, _MISTAKES // 3, left=0.01, right=0.99, bottom=0.01, top=0.93, hspace=0.3)
    for at, i in enumerate(judged.mistakes(truth)):
        axes = figure.add_subplot(grid[divmod(at, _MISTAKES // 3)])
        axes.axis("off")
        names = _names(judged, truth, data, i)
        axes.imshow(data.faces[judged.rows[i]], cmap="gray", vmin=0, vmax=255)
        axes.set_title(f"{names['said']} {judged.scores[i].max():.0%}\nlabelled {names['label']}", fontsize=8)
    return figure


def _history(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def _curves(rows: list[dict[str, float]]) -> Figure:
    epochs = [row["epoch"] for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label in ((key, "training (augmented)"), (f"val_{key}", "held out")):
            axes.plot(epochs, [row[name] for row in rows], label=label)
        axes.set(xlabel="epoch", title=key)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _confusion(metrics: Metrics, labels: tuple[str, ...]) -> Figure:
    counts = np.array(metrics.confusion)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ConfusionMatrixDisplay(shares, display_labels=labels).plot(
        ax=axes, cmap=mpl.colormaps["Blues"], values_format=".2f", xticks_rotation=45, colorbar=False
    )
    axes.set_title(f"{metrics.accuracy:.1%} of {metrics.faces} right")
    return figure


def _calibration(answers: dict[str, npt.NDArray[np.float32]], truth: npt.NDArray[np.int64]) -> Figure:
    """Reliability diagram (Guo et al. 2017, arXiv:1706.04599): accuracy over confidence, by bins of confidence."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for name, scores in answers.items():
        confidence, right = scores.max(axis=1), scores.argmax(axis=1) == truth
        bin_of = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        faces = np.bincount(bin_of, minlength=_BINS)
        used = faces > 0
        x, y = (np.bincount(bin_of, weights=w, minlength=_BINS)[used] / faces[used] for w in (confidence, right))
        axes.plot(x, y, marker="o", label=f"{name}: ECE {calibration_error(scores, truth):.3f}")
    axes.set(xlabel="score", ylabel="share that was right", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return figure
