"""Plot the accuracy of models against their latency, with the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fer_edge.bench.text import list_facts
from fer_edge.errors import InputError
from fer_edge.reports.html import render
from fer_edge.reports.svg_plot import Series, plot

if TYPE_CHECKING:
    from fer_edge.bench.results import Report


def plot_pareto(report: Report) -> str:
    """Return an SVG image of accuracy against latency, one face at a time, with the first configuration.

    Raises:
        InputError: no measured model has an accuracy on its card, or none was measured alone.
    """
    series = []
    measures = set()
    for model in report.models:
        case = next((case for case in report.cases if case.job == "classifier" and case.model == model.name), None)
        if case is None or model.accuracy is None:
            continue
        measures.add(model.accuracy_of)
        ms = case.latency.median / case.batch
        label = f"{model.name}: {model.accuracy:.2%}, {ms:.3f} ms ({model.accuracy_of})"
        series.append(Series(label, [(ms, 100 * model.accuracy)], line=False))
    if not series:
        raise InputError("no model has an accuracy on its card; `fer-edge convert --data` measures it")
    points = [point for each in series for point in each.points]
    front = [(x, y) for x, y in points if not any((a <= x and b >= y and (a, b) != (x, y)) for a, b in points)]
    if len(front) > 1:
        # First, so that the models' marks lie above it.
        series.insert(0, Series("no other model is both faster and more accurate", sorted(front)))
    measure = measures.pop() if len(measures) == 1 else "accuracy by different measures"
    return plot(series, "median, ms a face", f"{measure}, %", from_zero=False)


def pareto_page(report: Report, *, svg: bool) -> str:
    """Return the plot as an SVG image or as a page.

    Raises:
        InputError: see `plot_pareto`.
    """
    drawn = plot_pareto(report)
    if svg:
        return drawn
    return render("pareto.html", title="Accuracy and latency", plot=drawn, facts="\n".join(list_facts(report)))
