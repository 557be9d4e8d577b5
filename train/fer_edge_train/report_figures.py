"""The figures in the report of a classifier's training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from fer_edge.classification.metrics import calibration_error

if TYPE_CHECKING:
    import numpy.typing as npt

    from fer_edge.classification.metrics import Metrics

_BINS: Final = 15


def plot_curves(history: list[dict[str, float]]) -> Figure:
    """Plot loss and accuracy by epoch."""
    epochs = [row["epoch"] for row in history]
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for name, label in ((key, "training (augmented)"), (f"val_{key}", "held out")):
            axes.plot(epochs, [row[name] for row in history], label=label)
        axes.set(xlabel="epoch", ylabel=key)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def plot_confusion(metrics: Metrics, labels: tuple[str, ...]) -> Figure:
    """Plot the confusion matrix, each row divided by its sum."""
    counts = np.array(metrics.confusion)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ConfusionMatrixDisplay(shares, display_labels=labels).plot(
        ax=axes, cmap=mpl.colormaps["Blues"], values_format=".2f", xticks_rotation=45, colorbar=False
    )
    axes.set_title(f"{metrics.accuracy:.1%} of {metrics.faces} correct")
    return figure


def plot_reliability(scores_by_name: dict[str, npt.NDArray[np.float32]], truth: npt.NDArray[np.int64]) -> Figure:
    """Plot accuracy by confidence, in bins of confidence (Guo et al. 2017, arXiv:1706.04599).

    Args:
        scores_by_name: probabilities of shape (n, classes), by their label in the legend.
        truth: true class of each face, of shape (n,).
    """
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", label="perfect")
    for name, scores in scores_by_name.items():
        confidence, correct = scores.max(axis=1), scores.argmax(axis=1) == truth
        bin_of = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
        faces = np.bincount(bin_of, minlength=_BINS)
        used = faces > 0
        x, y = (np.bincount(bin_of, weights=w, minlength=_BINS)[used] / faces[used] for w in (confidence, correct))
        axes.plot(x, y, marker="o", label=f"{name}: ECE {calibration_error(scores, truth):.3f}")
    axes.set(xlabel="score", ylabel="share of correct answers", xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return figure
