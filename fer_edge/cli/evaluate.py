"""`fer-edge evaluate`: measure classifiers on labelled faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.loading import check_square, load_datasets
from fer_edge.cli.needs import need, need_keras_backend
from fer_edge.cli.options import FORMS, AsJson, LabelMap, Usage, Votes
from fer_edge.cli.output import fields, print_json, print_metrics, say
from fer_edge.errors import InputError
from fer_edge.utils.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.classification.confusion_page import Evaluation
    from fer_edge.datasets.dataset import Dataset
    from fer_edge_convert.keras_classifier import KerasClassifier

_MODEL_FILES: Final = (".keras", ".tflite")

app = typer.Typer()


@app.command()
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .keras or .tflite with a card, or the shipped edge or edge-plus; more of them may follow.",
            autocompletion=complete_classifier,
        ),
    ],
    data: Annotated[list[Path], typer.Argument(help=f"{FORMS} Several are tested together.")],
    usage: Usage = None,
    votes: Votes = None,
    label_map: LabelMap = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Test on this many faces only, of every label in proportion.")
    ] = None,
    confusion_html: Annotated[
        Path | None, typer.Option(help="Page to write, with the confusion matrix of each model.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure one or more models on labelled faces: a trained .keras or a converted .tflite.

    A .keras needs TensorFlow: pip install "fer-edge[train]". Every other form needs `fer-edge convert` first.

    \b
    Example: fer-edge evaluate edge.tflite fer2013.csv
    Example: fer-edge evaluate edge edge-plus fer2013.csv --limit 500 --confusion-html edge.html
    """
    from fer_edge.classification.confusion_page import write_confusion_page
    from fer_edge.utils.atomic_file import check_suffix, ensure_writable

    if confusion_html:
        check_suffix(confusion_html, "--confusion-html", ".html")
        ensure_writable(confusion_html)
    models, paths = _split_arguments(model, data)

    def load(side: int) -> list[Dataset]:
        majority = votes is not None
        return [one.select_usage(usage) for one in load_datasets(paths, votes, label_map, side, majority=majority)]

    evaluations, each, part = _measure_all(models, load, limit)
    total = sum(map(len, each))
    usages = (f"{' and '.join(_usages(one))} of {path}" for path, one in zip(paths, each, strict=True))
    judged = listed(list(usages))
    if len(part) < total:
        judged += f": only {len(part)} of {counted(total, 'face')}, of every label in proportion"
    if confusion_html:
        write_confusion_page(confusion_html, evaluations, f"On {judged}.")
    if as_json:
        described = {"data": [str(path) for path in paths], "usages": _usages(part), "faces_in_data": total}
        results = [_as_json(one) for one in evaluations]
        print_json({**described, **results[0]} if len(results) == 1 else {**described, "models": results})
    else:
        say(f"{listed([one.model for one in evaluations])} on {judged}")
        if len(evaluations) == 1:
            print_metrics(evaluations[0].metrics)
        else:
            say(*_comparison(evaluations))
        if confusion_html:
            say(f"written to {confusion_html}")


def _split_arguments(model: Path, rest: list[Path]) -> tuple[list[Path], list[Path]]:
    """Return the models and the data; models come first."""
    from fer_edge.model_zoo import CLASSIFIERS

    models, data = [model], list(rest)
    while data and (data[0].suffix in _MODEL_FILES or (str(data[0]) in CLASSIFIERS and not data[0].exists())):
        models.append(data.pop(0))
    if not data:
        raise InputError(
            f"{models[-1]}: a model; give the models first, then the labelled faces to measure on, such as fer2013.csv"
        )
    twice = next((one for i, one in enumerate(models) if one in models[:i]), None)
    if twice:
        raise InputError(f"{twice}: given twice; give each model once")
    return models, data


def _measure_all(
    models: Sequence[Path], load: Callable[[int], list[Dataset]], limit: int | None
) -> tuple[list[Evaluation], list[Dataset], Dataset]:
    """Measure each model on the same faces.

    Returns:
        The results, the datasets that were tested, and all the faces that were classified.
    """
    import numpy as np

    from fer_edge.classification.comparison import change_of_accuracy, spread_rows, wilson_interval
    from fer_edge.classification.confusion_page import Evaluation
    from fer_edge.classification.labels import canonical_label
    from fer_edge.classification.metrics import measure
    from fer_edge.datasets.dataset import fuse

    classifiers = [_load(model) for model in models]
    for model, classifier in zip(models, classifiers, strict=True):
        given = classifier.card.input
        check_square(model, given.height, given.width, "give a model that takes square ones")
    loaded: dict[int, tuple[list[Dataset], Dataset]] = {}
    evaluations: list[Evaluation] = []
    first: tuple[npt.NDArray[np.bool_], npt.NDArray[np.str_]] | None = None
    for model, classifier in zip(models, classifiers, strict=True):
        side, labels = classifier.card.input.height, classifier.card.labels
        if side not in loaded:
            each = load(side)
            part = fuse(each)
            if not loaded:
                say(*(f"left out: {line}" for line in part.left_out), error=True)
            if limit:
                mask = np.zeros(len(part), bool)
                mask[spread_rows(part.classes, limit)] = True
                part = part.select(mask)
            loaded[side] = each, part
        part = loaded[side][1]
        truth = part.classes_for(labels)
        scores = classifier.classify(part.faces)
        predicted = scores.argmax(axis=1)
        right, names = predicted == truth, np.array(list(map(canonical_label, labels)))[predicted]
        metrics = measure(scores, truth, labels)
        evaluations.append(
            Evaluation(
                model=str(model),
                metrics=metrics,
                interval=wilson_interval(metrics.accuracy, metrics.faces),
                change=change_of_accuracy(first[0], right) if first else None,
                agreement=float((first[1] == names).mean()) if first else 1.0,
            )
        )
        first = first or (right, names)
    return evaluations, *next(iter(loaded.values()))


def _load(model: Path) -> TFLiteClassifier | KerasClassifier:
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.model_zoo import find_model
    from fer_edge.utils.native_stderr import hide_native_stderr

    if model.suffix != ".keras":
        return TFLiteClassifier(find_model(model))
    need("train", "keras")
    need_keras_backend()
    with hide_native_stderr():
        from fer_edge_convert.keras_classifier import KerasClassifier

        return KerasClassifier(model)


def _as_json(evaluation: Evaluation) -> dict[str, object]:
    result: dict[str, object] = {"model": evaluation.model, **fields(evaluation.metrics)}
    result["interval"] = list(evaluation.interval)
    if evaluation.change:
        result["change"] = {**fields(evaluation.change), "agreement": evaluation.agreement}
    return result


def _comparison(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the figures of several models as lines of text."""
    from fer_edge.classification.confusion_page import show_change, show_interval

    wide = max(len(one.model) for one in evaluations)
    lines = [f"{'':<{wide}}  accuracy  95 % interval     macro F1  calibration error"]
    lines += [
        f"{one.model:<{wide}}  {one.metrics.accuracy:>8.2%}  {show_interval(one.interval):<16}  "
        f"{one.metrics.macro_f1:>8.3f}  {one.metrics.ece:>17.3f}"
        for one in evaluations
    ]
    lines.append(
        f"accuracy less that of {evaluations[0].model}, on the same {counted(evaluations[0].metrics.faces, 'face')}:"
    )
    lines += [
        f"{one.model:<{wide}}  {one.change.points:+.2f} points (95 % interval {show_change(one.change)}); same label on"
        f" {one.agreement:.1%}"
        for one in evaluations
        if one.change
    ]
    return lines


def _usages(dataset: Dataset) -> list[str]:
    return sorted(set(dataset.usages.tolist()))
