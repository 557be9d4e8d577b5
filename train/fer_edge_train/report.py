"""The report of a classifier's training: one HTML page with curves, errors and calibration, and the same as JSON."""

from __future__ import annotations

import csv
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from fer_edge.classification.metrics import Metrics, calibration_error, measure
from fer_edge.reports.html import embedded, page
from fer_edge.utils.atomic_file import replacing
from fer_edge_train.report_figures import plot_confusion, plot_curves, plot_mistakes, plot_reliability

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


def write_report(
    out: Path,
    data: Dataset,
    recipe: Recipe,
    split: Split,
    evaluations: dict[str, Evaluation],
    *,
    calibration: Calibration,
) -> None:
    """Write ``report.json``, the figures as PNG, and ``index.html``, which needs no other file.

    Args:
        out: folder of the run, with ``history.csv`` and ``recipe.toml``.  The report goes to ``report`` in it.
        data: the dataset.
        recipe: how the model was trained.
        split: which faces were for training, validation and test.
        evaluations: of the faces held out and, if there are any, tested on.  The last one is shown in full.
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
        "counts": {**{name: len(rows) for name, rows in split.named().items()}, "skipped": len(data.skipped)},
        "faces_per_class": {
            name: np.bincount(data.classes[rows], minlength=len(data.labels)).tolist()
            for name, rows in split.named().items()
        },
        "near_duplicates_of_training_faces": {
            name: int(np.isin(rows, split.duplicates).sum()) for name, rows in split.named().items()
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
    sections = [
        _counts_section(data, split),
        *(_results_section(name, one.metrics, new_faces[name], ece_before[name]) for name, one in evaluations.items()),
        f'<h2>Learning curves</h2><img src="{figures["curves"]}" alt="loss and accuracy by epoch">',
        f'<h2>Confusion, faces {part}</h2><img src="{figures["confusion"]}" alt="confusion matrix">',
        f"<h2>Calibration, faces {part}</h2><p>{html.escape(fitted)}, fitted on the held-out faces.</p>",
        f'<img src="{figures["calibration"]}" alt="accuracy by confidence">',
        f"<h2>Most confident mistakes, faces {part}</h2>",
        f'<img src="{figures["mistakes"]}" alt="faces with their predictions and labels">',
        f"<h2>Recipe</h2><pre>{html.escape((out / 'recipe.toml').read_text(encoding='utf-8'))}</pre>",
    ]
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(page(recipe.summary, "".join(sections)), encoding="utf-8")


def _save_figures(
    folder: Path, history: list[dict[str, float]], last: Evaluation, data: Dataset, calibration: Calibration
) -> dict[str, str]:
    """Save the figures as PNG and return their data URLs."""
    truth = data.classes[last.rows]
    wrong = last.mistakes(truth)
    figures: dict[str, Figure] = {
        "curves": plot_curves(history),
        "confusion": plot_confusion(last.metrics, data.labels),
        "mistakes": plot_mistakes(
            [data.faces[last.rows[i]] for i in wrong],
            [data.labels[last.scores[i].argmax()] for i in wrong],
            [data.labels[truth[i]] for i in wrong],
            [float(last.scores[i].max()) for i in wrong],
        ),
        "calibration": plot_reliability(
            {"before calibration": calibration.undo(last.scores), "after": last.scores}, truth
        ),
    }
    for name, figure in figures.items():
        with replacing(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=120)
    return {name: embedded((folder / f"{name}.png").read_bytes()) for name in figures}


def _counts_section(data: Dataset, split: Split) -> str:
    rows = ""
    for name, part in split.named().items():
        counts = "".join(f"<td>{n}</td>" for n in np.bincount(data.classes[part], minlength=len(data.labels)))
        duplicates = np.isin(part, split.duplicates).sum()
        rows += f"<tr><td>{name}</td><td>{len(part)}</td>{counts}<td>{duplicates}</td></tr>"
    labels = "".join(f"<th>{html.escape(label)}</th>" for label in data.labels)
    skipped = "".join(f"<li>left out: {html.escape(line)}</li>" for line in (*data.left_out, *data.skipped[:50]))
    return (
        f"<h2>Data</h2><p>{html.escape(data.name)}: {len(data)} faces, {len(data.skipped)} images unreadable.</p>"
        f"<table><tr><th></th><th>faces</th>{labels}<th>near-duplicates of training faces</th></tr>{rows}</table>"
        f"<ul>{skipped}</ul>"
    )


def _results_section(part: str, metrics: Metrics, new: Evaluation | None, ece_before: float) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{one.precision:.3f}</td><td>{one.recall:.3f}</td><td>{one.f1:.3f}</td>"
        f"<td>{one.support}</td></tr>"
        for label, one in metrics.classes.items()
    )
    of_new = f"{new.metrics.accuracy:.2%} of {new.metrics.faces}" if new else "none"
    return (
        f"<h2>Faces {part}</h2><p><b>{metrics.accuracy:.2%}</b> of {metrics.faces} correct, macro F1"
        f" {metrics.macro_f1:.3f}. Of faces without a near-duplicate among the training faces: {of_new}."
        f" Expected calibration error {ece_before:.3f} before calibration, {metrics.ece:.3f} after.</p>"
        f"<table><tr><th></th><th>precision</th><th>recall</th><th>F1</th><th>faces</th></tr>{rows}</table>"
    )


def _read_history(path: Path) -> list[dict[str, float]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
