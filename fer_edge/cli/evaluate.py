"""`fer-edge evaluate`: measure classifiers on labelled faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.loading import check_square, load_datasets
from fer_edge.cli.needs import need, need_keras_backend
from fer_edge.cli.options import FORMS, AsJson, LabelMap, Usage, Votes
from fer_edge.cli.output import fields, print_json, print_metrics, say
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError
from fer_edge.utils.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.classification.confusion_page import Evaluation
    from fer_edge.classification.groups import Answers, GroupAccuracy
    from fer_edge.datasets.dataset import Dataset
    from fer_edge_convert.keras_classifier import KerasClassifier

_MODEL_FILES: Final = (".keras", ".tflite", ".h5", ".hdf5", ".onnx", ".pt2")  # some of which must be converted first
_AGREEMENT: Final = "agreement"
_DUPLICATES: Final = "near-duplicates"
_DATA: Final = "data"
_LABEL: Final = "label"
_OWN_GROUPS: Final = (_AGREEMENT, _DUPLICATES, _DATA, _LABEL)  # of --by; all others are columns of the data

_FAILURES: Final[dict[str | None, set[str]]] = {  # verdicts that --require does not take
    None: set(),
    "better": {"not shown", "worse"},
    "not-worse": {"worse"},
}

app = typer.Typer()


@app.command()
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .keras or .tflite with a card, or the shipped edge, edge-plus or large; more of them may follow.",
            autocompletion=complete_classifier,
        ),
    ],
    data: Annotated[list[Path], typer.Argument(help=f"{FORMS} Several are tested together.")],
    usage: Usage = None,
    votes: Votes = None,
    own_labels: Annotated[
        bool, typer.Option("--own-labels", help="Keep the data's labels; --votes then only serve --by agreement.")
    ] = False,
    label_map: LabelMap = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Test on this many faces only, of every label in proportion.")
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            min=100,
            max=100_000,
            help="Also print 95 % intervals of accuracy and log loss, from this many resamples of the faces (1000).",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Also print the accuracy by a column of the CSV, by label, by data (the file or folder), by agreement"
            " (of FER+'s annotators) or by near-duplicates (of training faces); may be repeated.",
        ),
    ] = None,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Also measure on mirror images, and by the mean of both scores.")
    ] = False,
    answers_csv: Annotated[
        Path | None, typer.Option(help="CSV to write, with each model's answer and scores for each face.")
    ] = None,
    confusion_html: Annotated[
        Path | None, typer.Option(help="Page to write, with the confusion matrix of each model.")
    ] = None,
    require: Annotated[
        Literal["better", "not-worse"] | None,
        typer.Option(help="Exit with status 1 unless each further model is better, or not shown to be worse."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure one or more models on labelled faces: a trained .keras or a converted .tflite.

    A .keras needs TensorFlow: pip install "fer-edge[train]". Every other form needs `fer-edge convert` first.

    \b
    Example: fer-edge evaluate edge.tflite fer2013.csv
    Example: fer-edge evaluate edge mine.csv --by age_group --mirror --answers-csv answers.csv
    Example: fer-edge evaluate edge edge-plus fer2013.csv --limit 500 --confusion-html edge.html
    Example: fer-edge evaluate edge mine.tflite fer2013.csv --bootstrap 1000
    Example: fer-edge evaluate edge mine.tflite my_faces/ fer2013.csv --by data --require not-worse
    """
    from fer_edge.classification.confusion_page import write_confusion_page
    from fer_edge.classification.groups import measure_groups, write_answers
    from fer_edge.utils.atomic_file import check_suffix, ensure_writable

    outputs = ((confusion_html, "--confusion-html", ".html"), (answers_csv, "--answers-csv", ".csv"))
    for path, option, suffix in outputs:
        if path:
            check_suffix(path, option, suffix)
            ensure_writable(path)
    if own_labels and not votes:
        raise InputError("--own-labels: the data's labels are used already; it goes with --votes")
    by = list(dict.fromkeys(by or []))
    models, paths = _split_arguments(model, data, require)

    def load(side: int) -> list[Dataset]:
        majority = votes is not None and not own_labels
        columns = [name for name in by if name not in _OWN_GROUPS]
        datasets = load_datasets(paths, votes, label_map, side, majority=majority, columns=columns)
        named = zip(map(str, paths), datasets, strict=True)
        return [_with_groups(one, by, path).select_usage(usage) for path, one in named]

    answers, each, part = _classify_all(models, load, limit, mirror=mirror)
    evaluations = _evaluate_all(answers, bootstrap)
    groups = {name: measure_groups(answers, name, part.columns[name]) for name in by}
    total = sum(map(len, each))
    usages = (f"{' and '.join(_usages(one))} of {path}" for path, one in zip(paths, each, strict=True))
    judged = listed(list(usages))
    if len(part) < total:
        judged += f": only {len(part)} of {counted(total, 'face')}, of every label in proportion"
    if confusion_html:
        write_confusion_page(confusion_html, evaluations, f"On {judged}.")
    if answers_csv:
        write_answers(answers_csv, part.columns, answers)
    if as_json:
        described = {"data": [str(path) for path in paths], "usages": _usages(part), "faces_in_data": total}
        if groups:
            described["groups"] = {name: [fields(one) for one in found] for name, found in groups.items()}
        results = [_as_json(one) for one in evaluations]
        print_json({**described, **results[0]} if len(results) == 1 else {**described, "models": results})
    else:
        _print_results(evaluations, groups, judged)
        say(*(f"written to {path}" for path, *_ in outputs if path))
    _check_required(evaluations, require)


def _check_required(evaluations: Sequence[Evaluation], require: str | None) -> None:
    """Exit with status 1 if a model is not as good as required."""
    verdicts = {one.change.verdict for one in evaluations if one.change}
    if verdicts & _FAILURES[require]:
        raise typer.Exit(1)


def _print_results(
    evaluations: Sequence[Evaluation], groups: Mapping[str, Sequence[GroupAccuracy]], judged: str
) -> None:
    """Print figures as text.

    Args:
        evaluations: one or more models on the same faces.
        groups: their accuracy by group, for each thing that faces are grouped by.
        judged: which faces these are.
    """
    from fer_edge.classification.confusion_page import show_interval

    say(f"{listed([one.model for one in evaluations])} on {judged}")
    if len(evaluations) == 1:
        print_metrics(evaluations[0].metrics)
        say(f"95 % interval of the accuracy (Wilson): {show_interval(evaluations[0].interval)}")
    else:
        say(*_comparison(evaluations))
    say(*_bootstrap_lines(evaluations))
    for name, found in groups.items():
        say(*_group_lines(name, found, evaluations))


def _split_arguments(model: Path, rest: list[Path], require: str | None) -> tuple[list[Path], list[Path]]:
    """Return the models and the data; models come first. With a requirement, two models must be there."""
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
    if require and len(models) == 1:
        raise InputError(f"--require {require}: give two models or more; the others are compared with the first")
    return models, data


def _with_groups(dataset: Dataset, by: Sequence[str], path: str) -> Dataset:
    """Add row and usage of each face, and what faces are grouped by, to the columns of a dataset from a path."""
    from dataclasses import replace

    import numpy as np

    from fer_edge.datasets.dataset import TRAINING
    from fer_edge.datasets.ferplus import agreement

    columns = {"row": np.arange(len(dataset)).astype(str), "usage": dataset.usages, **dataset.columns}
    if _DATA in by:
        columns[_DATA] = np.full(len(dataset), path)
    if _LABEL in by:
        columns[_LABEL] = np.array(dataset.labels)[dataset.classes]
    if _AGREEMENT in by:
        columns[_AGREEMENT] = agreement(dataset)
    if _DUPLICATES in by:
        from fer_edge.datasets.near_duplicates import near_duplicates

        groups = near_duplicates(dataset.faces)
        repeated = np.isin(groups, groups[dataset.usages == TRAINING])
        columns[_DUPLICATES] = np.where(repeated, "in training", "not in training")
    return replace(dataset, columns=columns)


def _classify_all(
    models: Sequence[Path], load: Callable[[int], list[Dataset]], limit: int | None, *, mirror: bool
) -> tuple[list[Answers], list[Dataset], Dataset]:
    """Classify the same faces with each model.

    Args:
        models: the models.
        load: reads the datasets, with faces of a side in pixels.
        limit: number of faces to classify; None for all of them.
        mirror: whether to add, for each model, the answers for mirror images and the mean of both.

    Returns:
        The answers, the datasets that were tested, and all the faces that were classified.
    """
    import numpy as np

    from fer_edge.classification.comparison import spread_rows
    from fer_edge.classification.groups import Answers
    from fer_edge.datasets.dataset import fuse

    classifiers = [_load(model) for model in models]
    for model, classifier in zip(models, classifiers, strict=True):
        given = classifier.card.input
        check_square(model, given.height, given.width, "give a model that takes square ones")
    loaded: dict[int, tuple[list[Dataset], Dataset]] = {}
    answers: list[Answers] = []
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
        with show_work(f"classifying {counted(len(part), 'face')} with {model}"):
            plain = classifier.classify(part.faces)
        answers.append(Answers(str(model), labels, plain, truth))
        if mirror:
            with show_work(f"classifying their mirror images with {model}"):
                mirrored = classifier.classify(part.faces[:, :, ::-1])
            mean = np.asarray((plain + mirrored) / 2, np.float32)
            answers.append(Answers(f"{model}, mirrored", labels, mirrored, truth))
            answers.append(Answers(f"{model}, mean of both", labels, mean, truth))
    return answers, *next(iter(loaded.values()))


def _evaluate_all(answers: Sequence[Answers], resamples: int | None) -> list[Evaluation]:
    """Measure answers for the same faces; differences are relative to the first.

    Args:
        answers: the answers of each model.
        resamples: number of resamples for bootstrap intervals; None for no such intervals.
    """
    import msgspec
    import numpy as np

    from fer_edge.classification.comparison import bootstrap, change_of_accuracy, wilson_interval
    from fer_edge.classification.confusion_page import Evaluation
    from fer_edge.classification.labels import canonical_label
    from fer_edge.classification.metrics import log_losses, measure

    names = [np.array(list(map(canonical_label, one.labels)))[one.scores.argmax(axis=1)] for one in answers]
    evaluations = []
    for i, one in enumerate(answers):
        metrics = measure(one.scores, one.truth, one.labels)
        evaluations.append(
            Evaluation(
                model=one.model,
                metrics=metrics,
                interval=wilson_interval(metrics.accuracy, metrics.faces),
                change=change_of_accuracy(answers[0].right, one.right) if i else None,
                agreement=float((names[0] == names[i]).mean()),
            )
        )
    if not resamples:
        return evaluations
    losses = np.stack([log_losses(one.scores, one.truth) for one in answers])
    intervals = bootstrap(np.stack([one.right for one in answers]), losses, resamples)
    return [msgspec.structs.replace(one, bootstrap=its) for one, its in zip(evaluations, intervals, strict=True)]


def _load(model: Path) -> TFLiteClassifier | KerasClassifier:
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.model_zoo import find_model
    from fer_edge.modelcard.reader import read_card
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge.utils.native_stderr import hide_native_stderr

    if model.suffix != ".keras":
        return TFLiteClassifier(find_model(model))
    read_card(model, ClassifierCard)  # before Keras, which takes seconds and 800 MB
    need("train", "keras")
    need_keras_backend()
    with hide_native_stderr(), show_work(f"loading {model}"):
        from fer_edge_convert.keras_classifier import KerasClassifier

        return KerasClassifier(model)


def _as_json(evaluation: Evaluation) -> dict[str, object]:
    result: dict[str, object] = {"model": evaluation.model, **fields(evaluation.metrics)}
    result["interval"] = list(evaluation.interval)
    if evaluation.bootstrap:
        result["bootstrap"] = fields(evaluation.bootstrap)
    if evaluation.change:
        result["change"] = {**fields(evaluation.change), "agreement": evaluation.agreement}
    return result


def _comparison(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the figures of several models as lines of text."""
    from fer_edge.classification.confusion_page import show_change, show_interval, show_verdict

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
    lines += [show_verdict(one.change, one.model, evaluations[0].model) for one in evaluations if one.change]
    return lines


def _bootstrap_lines(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the bootstrap intervals as lines of text; none if they were not asked for."""
    from fer_edge.classification.confusion_page import show_interval

    lines = []
    for one in evaluations:
        if its := one.bootstrap:
            low, high = its.log_loss
            lines.append(
                f"{one.model}, 95 % intervals from {its.resamples} resamples: accuracy {show_interval(its.accuracy)};"
                f" log loss {one.metrics.log_loss:.4f}, {low:.4f} to {high:.4f}"
            )
            if its.accuracy_change and its.log_loss_change:
                low, high = its.accuracy_change
                less, more = its.log_loss_change
                change = one.metrics.log_loss - evaluations[0].metrics.log_loss
                lines.append(
                    f"{one.model} less {evaluations[0].model}: accuracy {low:+.2f} to {high:+.2f} points;"
                    f" log loss {change:+.4f}, {less:+.4f} to {more:+.4f}"
                )
    return lines


def _group_lines(name: str, groups: Sequence[GroupAccuracy], evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the accuracy by group as lines of text."""
    from fer_edge.classification.confusion_page import show_change, show_interval

    wide = max(len(one.value) for one in groups)
    lines = []
    for i, evaluation in enumerate(evaluations):
        lines.append(f"{evaluation.model}, accuracy by {name}:")
        for one in groups:
            line = (
                f"  {one.value:<{wide}}  {one.accuracy[i]:>7.2%} of {counted(one.faces, 'face'):<11}"
                f" 95 % interval {show_interval(one.intervals[i])}"
            )
            if one.differences:
                difference = one.differences[i]
                line += f"; {difference.points:+.1f} points from the others ({show_change(difference)})"
            lines.append(line)
    for i, evaluation in enumerate(evaluations[1:]):
        lines.append(f"{evaluation.model}, accuracy by {name} less that of {evaluations[0].model}:")
        lines += [
            f"  {one.value:<{wide}}  {one.changes[i].points:+.2f} points ({show_change(one.changes[i])}):"
            f" {one.changes[i].verdict}, p = {one.changes[i].p_value:.2g}"
            for one in groups
        ]
    return lines


def _usages(dataset: Dataset) -> list[str]:
    return sorted(set(dataset.usages.tolist()))
