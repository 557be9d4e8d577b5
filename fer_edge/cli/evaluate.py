"""`fer-edge evaluate`: measure a classifier on labelled faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.loading import check_square, load_datasets
from fer_edge.cli.needs import need, need_keras_backend
from fer_edge.cli.options import FORMS, AsJson, LabelMap, Usage, Votes
from fer_edge.cli.output import fields, print_json, print_metrics, say

if TYPE_CHECKING:
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.datasets.dataset import Dataset

app = typer.Typer()


@app.command()
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .keras or .tflite with a card, or the shipped edge or edge-plus.",
            autocompletion=complete_classifier,
        ),
    ],
    data: Annotated[list[Path], typer.Argument(help=f"{FORMS} Several are tested together.")],
    usage: Usage = None,
    votes: Votes = None,
    label_map: LabelMap = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled faces: a trained .keras or a converted .tflite.

    A .keras needs TensorFlow: pip install "fer-edge[train]". Every other form needs `fer-edge convert` first.

    \b
    Example: fer-edge evaluate edge.tflite fer2013.csv
    """
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.classification.metrics import measure
    from fer_edge.datasets.dataset import fuse
    from fer_edge.model_zoo import find_model
    from fer_edge.utils.native_stderr import hide_native_stderr

    if model.suffix == ".keras":
        need("train", "keras")
        need_keras_backend()
        with hide_native_stderr():
            from fer_edge_convert.keras_classifier import KerasClassifier

            classifier: TFLiteClassifier | KerasClassifier = KerasClassifier(model)
    else:
        classifier = TFLiteClassifier(find_model(model))
    side = classifier.card.input.height
    check_square(model, side, classifier.card.input.width, "give a model that takes square ones")
    each = [one.select_usage(usage) for one in load_datasets(data, votes, label_map, side, majority=votes is not None)]
    part = fuse(each)
    for line in part.left_out:
        say(f"left out: {line}", error=True)
    truth = part.classes_for(classifier.card.labels)
    metrics = measure(classifier.classify(part.faces), truth, classifier.card.labels)
    if as_json:
        print_json(
            {"model": str(model), "data": [str(path) for path in data], "usages": _usages(part), **fields(metrics)}
        )
    else:
        judged = (f"{' and '.join(_usages(one))} of {path}" for path, one in zip(data, each, strict=True))
        say(f"{model} on {' and '.join(judged)}")
        print_metrics(metrics)


def _usages(dataset: Dataset) -> list[str]:
    return sorted(set(dataset.usages.tolist()))
