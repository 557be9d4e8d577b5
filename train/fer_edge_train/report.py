"""The report of a classifier's training: one HTML page with curves, errors and calibration, and the same as JSON."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.metrics import Metrics, calibration_error, measure
from fer_edge.reports.html import data_url, face_figure, render
from fer_edge.utils.atomic_file import replacing
from fer_edge.utils.words import counted
from fer_edge_train.report_figures import plot_confusion, plot_curves, plot_reliability

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_train.calibration import Calibration
    from fer_edge_train.recipe import Recipe
    from fer_edge_train.split import Split

_MAX_MISTAKES: Final = 24


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's scores for some faces of a dataset.

    Attributes:
        rows: indices of the faces, of shape (n,).
        scores: probabilities of shape (n, classes).
        metrics: accuracy and other measures of them.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    metrics: Metrics

    @classmethod
    def of(cls, scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], data: Dataset) -> Evaluation:
        """Compare the scores for ``rows`` of a dataset with its labels."""
        return cls(rows, scores, measure(scores, data.classes[rows], data.labels))

    def mistakes(self, truth: npt.NDArray[np.int64]) -> list[int]:
        """Return the positions of the most confident wrong answers, at most 24."""
        wrong = np.flatnonzero(self.scores.argmax(axis=1) != truth)
        order = np.argsort(-self.scores[wrong].max(axis=1), kind="stable")
        return wrong[order][:_MAX_MISTAKES].tolist()  # type: ignore[no-any-return]

    def without(self, duplicates: npt.NDArray[np.int64], data: Dataset) -> Evaluation | None:
        """Evaluate the faces that are not in ``duplicates``; None if there are none."""
        new = ~np.isin(self.rows, duplicates)
        return Evaluation.of(self.scores[new], self.rows[new], data) if new.any() else None


def write_classifier_report(
    out: Path,
    data: Dataset,
    recipe: Recipe,
    split: Split,
    evaluations: dict[str, Evaluation],
    *,
    calibration: Calibration,
) -> None:
    """Write ``report.json``, the plots as PNG, and ``index.html``, which needs no other file.

    Args:
        out: folder of the run, with ``history.csv`` and ``recipe.toml``. The report goes to ``report`` in it.
        data: the dataset.
        recipe: how the model was trained.
        split: which faces were for training, validation and test.
        evaluations: of the faces held out and, if there are any, tested on. The last one is shown in full.
        calibration: calibration of the scores.
    """
    folder = out / "report"
    part, last = list(evaluations.items())[-1]
    truth = data.classes[last.rows]
    ece_before = {
        name: calibration_error(calibration.undo(one.scores), data.classes[one.rows])
        for name, one in evaluations.items()
    }
    history = _read_history(out / "history.csv")
    new_faces = {name: one.without(split.duplicates, data) for name, one in evaluations.items()}
    report = {
        "data": data.name,
        "labels": data.labels,
        "counts": {**{name: len(rows) for name, rows in split.parts_by_name().items()}, "skipped": len(data.skipped)},
        "faces_per_class": {
            name: np.bincount(data.classes[rows], minlength=len(data.labels)).tolist()
            for name, rows in split.parts_by_name().items()
        },
        "near_duplicates_of_training_faces": {
            name: int(np.isin(rows, split.duplicates).sum()) for name, rows in split.parts_by_name().items()
        },
        "left_out": data.left_out,
        "skipped": data.skipped,
        "temperature": calibration.temperature,
        "biases": dict(zip(data.labels, calibration.biases.tolist(), strict=True)),
        "ece_before_calibration": ece_before,
        "history": history,
        "most_confident_mistakes": [
            {
                "face": int(last.rows[i]),
                "score": float(last.scores[i].max()),
                "predicted": data.labels[last.scores[i].argmax()],
                "label": data.labels[truth[i]],
            }
            for i in last.mistakes(truth)
        ],
        "results": {name: one.metrics for name, one in evaluations.items()},
        "results_without_near_duplicates": {name: one.metrics for name, one in new_faces.items() if one},
    }
    with replacing(folder / "report.json") as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    figures = _save_figures(folder, history, last, data, calibration)
    biases = zip(data.labels, calibration.biases.tolist(), strict=True)
    fitted = (
        f"Temperature {calibration.temperature:.3f}, biases {', '.join(f'{label} {b:+.2f}' for label, b in biases)}"
    )
    page = render(
        "training.html",
        title=recipe.summary,
        headline=f"{last.metrics.accuracy:.1%} of the {last.metrics.faces} faces {part} got the right label.",
        data=_describe_data(data, split),
        results=[
            _describe_results(name, one.metrics, new_faces[name], ece_before[name]) for name, one in evaluations.items()
        ],
        images=figures,
        mistakes=[
            face_figure(
                data.faces[last.rows[i]],
                "a face",
                (
                    f"{data.labels[last.scores[i].argmax()]} {last.scores[i].max():.0%}",
                    f"labelled {data.labels[truth[i]]}",
                ),
            )
            for i in last.mistakes(truth)
        ],
        part=part,
        calibration=fitted,
        recipe=(out / "recipe.toml").read_text(encoding="utf-8"),
    )
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(page, encoding="utf-8")


def _save_figures(
    folder: Path, history: list[dict[str, float]], last: Evaluation, data: Dataset, calibration: Calibration
) -> dict[str, str]:
    """Save the figures as PNG and return their data URLs."""
    truth = data.classes[last.rows]
    figures: dict[str, Figure] = {
        "curves": plot_curves(history),
        "confusion": plot_confusion(last.metrics, data.labels),
        "calibration": plot_reliability(
            {"before calibration": calibration.undo(last.scores), "after": last.scores}, truth
        ),
    }
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120)
    return {name: data_url((folder / f"{name}.png").read_bytes()) for name in figures}


def _describe_data(data: Dataset, split: Split) -> dict[str, object]:
    rows = []
    for name, part in split.parts_by_name().items():
        counts = np.bincount(data.classes[part], minlength=len(data.labels)).tolist()
        rows.append((name, len(part), *counts, int(np.isin(part, split.duplicates).sum())))
    return {
        "text": f"{data.name}: {counted(len(data), 'face')}; {counted(len(data.skipped), 'image')} cannot be read.",
        "head": ("part", "faces", *data.labels, "near-duplicates of training faces"),
        "rows": rows,
        "left_out": (*data.left_out, *data.skipped[:50]),
    }


def _describe_results(part: str, metrics: Metrics, new: Evaluation | None, ece_before: float) -> dict[str, object]:
    of_new = f"{new.metrics.accuracy:.2%} of {new.metrics.faces}" if new else "none"
    return {
        "name": part,
        "accuracy": f"{metrics.accuracy:.2%}",
        "text": (
            f"of {metrics.faces} correct, macro F1 {metrics.macro_f1:.3f}. Of faces without a near-duplicate among the"
            f" training faces: {of_new}. Expected calibration error {ece_before:.3f} before calibration,"
            f" {metrics.ece:.3f} after."
        ),
        "classes": [
            (label, f"{one.precision:.3f}", f"{one.recall:.3f}", f"{one.f1:.3f}", one.support)
            for label, one in metrics.classes.items()
        ],
    }


def _read_history(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
