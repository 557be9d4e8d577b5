"""What a training run leaves for people: learning curves, a confusion matrix and the figures as JSON."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import matplotlib as mpl
import msgspec
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from fer_edge.files import replacing

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge.datasets import Dataset
    from fer_edge.metrics import Metrics


def write_report(
    folder: Path,
    history: Path,
    data: Dataset,
    counts: dict[str, int],
    *,
    validation: Metrics,
    test: Metrics | None,
    temperature: float,
) -> None:
    """Write ``report.json``, ``curves.png`` and ``confusion.png``.

    Args:
        folder: where to; made when it is not there.
        history: CSV with a row an epoch.
        data: what was trained on.
        counts: how many faces went where.
        validation: scores on held-out training faces.
        test: scores on the test faces, where there are any.
        temperature: what the logits were divided by.
    """
    report = {
        "data": data.name,
        "labels": data.labels,
        "counts": counts,
        "faces_per_class": {label: int((data.classes == i).sum()) for i, label in enumerate(data.labels)},
        "skipped": data.skipped,
        "temperature": temperature,
        "validation": validation,
        "test": test,
    }
    with replacing(folder / "report.json") as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    _curves(folder / "curves.png", history)
    _confusion(folder / "confusion.png", test or validation, data.labels, "test" if test else "held-out")


def _curves(path: Path, history: Path) -> None:
    with history.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    epochs = [int(row["epoch"]) for row in rows]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label in ((key, "training (augmented)"), (f"val_{key}", "held out")):
            axes.plot(epochs, [float(row[name]) for row in rows], label=label)
        axes.set(xlabel="epoch", title=key)
        axes.grid(alpha=0.3)
        axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _confusion(path: Path, metrics: Metrics, labels: tuple[str, ...], part: str) -> None:
    counts = np.array(metrics.confusion)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ConfusionMatrixDisplay(shares, display_labels=labels).plot(
        ax=axes, cmap=mpl.colormaps["Blues"], values_format=".2f", xticks_rotation=45, colorbar=False
    )
    axes.set_title(f"{part} faces: {metrics.accuracy:.1%} of {metrics.faces} right")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
