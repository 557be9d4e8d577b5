"""The commands of a workstation: train, train-faces, recipes, convert, evaluate."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_edge.cli.options import (
    FORMS,
    AsJson,
    InputRange,
    LabelMap,
    Labels,
    Usage,
    Votes,
    command_line,
    fields,
    need,
    need_keras_backend,
    print_json,
)
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import numpy.typing as npt

    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.classification.metrics import Metrics
    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.sources import Source
    from fer_edge_train.split import Parts

app = typer.Typer()

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")]
FacesRecipeFile = Annotated[str | None, typer.Option(help="A .toml file, instead of the recipe that is shipped.")]
Paste = Annotated[Path | None, typer.Option(help=f"More faces, to paste into images: {FORMS}")]
YuNetTeacher = Annotated[Path | None, typer.Option(help="YuNet's ONNX file, to learn from and compare with.")]


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help=FORMS)] = None,
    more: Annotated[
        list[Path] | None, typer.Option("--data", help="Another dataset, fused with the first; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")] = ...,  # type: ignore[assignment]
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a .toml file.")] = "edge",
    settings: Settings = None,
    epochs: Epochs = None,
    votes: Annotated[Path | None, typer.Option(help="FER+'s fer2013new.csv, for the rows of the first CSV.")] = None,
    label_map: LabelMap = None,
    weights: Annotated[
        Path | None, typer.Option(help="Begin from this .keras; for a transfer, its backbone's weights file.")
    ] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="A .keras whose answers are learnt from; may be repeated.")
    ] = None,
    soft_labels: Annotated[
        Path | None, typer.Option(help="An .npz for the teachers' answers: read if it is there, else written.")
    ] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="Folder to write TensorBoard logs to.")] = None,
    resume: Resume = False,
) -> None:
    """Train a Keras CNN on labelled faces.

    \b
    Example: fer-edge train fer2013.csv --votes fer2013new.csv --out runs/edge
    """
    need("train", "keras", "sklearn", "matplotlib", "tomli_w")
    need_keras_backend()
    from fer_edge.utils.native_stderr import native_stderr_hidden

    paths = [*([data] if data else []), *(more or [])]
    if not paths:
        raise InputError("no data to train on: give fer2013.csv, or --data once for each dataset")
    # What is wrong with these is said before Keras is loaded.
    from fer_edge.datasets.readers import ensure_there
    from fer_edge_train.recipe import load_recipe

    how = load_recipe(recipe, [*(settings or []), *([f"schedule.epochs={epochs}"] if epochs else [])])
    for path in paths:
        ensure_there(path)
    if weights and not weights.exists():
        raise InputError(f"{weights}: no such file of weights; give a trained .keras, or a backbone's weights file")
    with native_stderr_hidden():
        from rich.console import Console

        from fer_edge.modelcard.archive import read_card
        from fer_edge_train.hardware import resolved
        from fer_edge_train.progress import TrainingProgress, tensorboard_callback
        from fer_edge_train.split import divide
        from fer_edge_train.teachers import SoftLabels, Teachers, soft_labels_for
        from fer_edge_train.training import check_start, prepared
        from fer_edge_train.training import train as run_training

        check_start(how, out, taught=bool(teacher or soft_labels), resume=resume)
        majority = how.target.protocol == "ferplus"
        dataset = prepared(_datasets(paths, votes, label_map, how.data.side, majority=majority), how)
        parts = divide(dataset, how.data.validation, how.data.validation_seed, how.optimizer.batch_size)
        _describe(dataset, parts)
        taught: SoftLabels | Teachers | None = None
        if soft_labels and how.target.every_view:
            raise InputError(
                "--soft-labels are about the faces as they are; with target.every_view give --teacher alone"
            )
        if teacher and how.target.every_view:
            taught = Teachers(teacher, dataset.labels, resolved(how.precision))
        elif teacher or soft_labels:
            taught = soft_labels_for(dataset, teacher or [], soft_labels, resolved(how.precision))
        # A transfer's weights are no model of ours.
        begun = [weights] if weights and weights.suffix == ".keras" else []
        with TrainingProgress(Console(stderr=True), how.schedule.epochs) as progress:
            result = run_training(
                dataset,
                parts,
                how,
                Path(recipe).stem,
                out,
                weights=weights,
                taught=taught,
                resume=resume,
                made_by=_commands(read_card(one).made_by for one in (*(teacher or []), *begun)),
                callbacks=[progress, *([tensorboard_callback(tensorboard)] if tensorboard else [])],
            )
    print(f"{result.model}: {result.validation.accuracy:.2%} of {result.validation.faces} held-out faces right")
    if result.test:
        _print_metrics(result.test)


@app.command()
def train_faces(
    data: Annotated[Path, typer.Argument(help="Folder with train/ and val/, each with labels.csv and its images.")],
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")],
    recipe: FacesRecipeFile = None,
    settings: Settings = None,
    epochs: Epochs = None,
    paste: Paste = None,
    weights: Annotated[Path | None, typer.Option(help="Begin from this detector's .keras.")] = None,
    teacher: YuNetTeacher = None,
    resume: Resume = False,
) -> None:
    """Train a face detector on images with marked faces.

    \b
    Example: fer-edge train-faces faces --paste fer2013.csv --out runs/faces
    """
    need("train", "keras", "sklearn", "matplotlib", "tomli_w")
    need_keras_backend()
    from fer_edge.datasets.faces import load_faces
    from fer_edge.utils.native_stderr import native_stderr_hidden
    from fer_edge_train.faces.detector_recipe import load_faces_recipe

    # What is wrong with these is said before Keras is loaded.
    how = load_faces_recipe(recipe, [*(settings or []), *([f"schedule.epochs={epochs}"] if epochs else [])])
    parts = load_faces(data / "train"), load_faces(data / "val")
    with native_stderr_hidden():
        from rich.console import Console

        from fer_edge.modelcard.archive import read_detector_card
        from fer_edge_train.faces.detector_training import train as run_training
        from fer_edge_train.progress import TrainingProgress
        from fer_edge_train.training import check_folder

        check_folder(out, resume=resume)
        with TrainingProgress(Console(stderr=True), how.schedule.epochs) as progress:
            result = run_training(
                *parts,
                how,
                out,
                weights=weights,
                teacher=teacher,
                pasted=_training_faces(paste) if paste else None,
                resume=resume,
                made_by=_commands([read_detector_card(weights).made_by] if weights else []),
                callbacks=[progress],
            )
    print(
        f"{result.model}: average precision {result.matches.average_precision(20):.4f} on faces of 20 pixels and more"
    )


@app.command()
def train_refiner(
    data: Annotated[Path, typer.Argument(help="Folder with train/ and val/, as train-faces takes it.")],
    detector: Annotated[Path, typer.Option(help="The first stage: a detector's .tflite.")],
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")],
    recipe: FacesRecipeFile = None,
    settings: Settings = None,
    epochs: Epochs = None,
    paste: Paste = None,
    teacher: YuNetTeacher = None,
    resume: Resume = False,
) -> None:
    """Train a detector's second stage, which looks again at what the first one takes for faces.

    \b
    Example: fer-edge train-refiner faces --detector faces.tflite --out runs/refiner
    """
    need("train", "keras", "sklearn", "matplotlib", "tomli_w")
    need_keras_backend()
    from fer_edge.datasets.faces import load_faces
    from fer_edge.modelcard.archive import read_detector_card
    from fer_edge.utils.native_stderr import native_stderr_hidden
    from fer_edge_train.faces.detector_recipe import load_refiner_recipe

    # What is wrong with these is said before Keras is loaded.
    how = load_refiner_recipe(recipe, [*(settings or []), *([f"schedule.epochs={epochs}"] if epochs else [])])
    made_by = _commands([read_detector_card(detector).made_by])
    parts = load_faces(data / "train"), load_faces(data / "val")
    with native_stderr_hidden():
        from rich.console import Console

        from fer_edge_train.faces.refiner_training import train_refiner as run_training
        from fer_edge_train.progress import TrainingProgress
        from fer_edge_train.training import check_folder

        check_folder(out, resume=resume)
        with TrainingProgress(Console(stderr=True), how.schedule.epochs) as progress:
            result = run_training(
                *parts,
                detector,
                how,
                out,
                teacher=teacher,
                pasted=_training_faces(paste) if paste else None,
                resume=resume,
                made_by=made_by,
                looked=lambda done, total: progress.prepared(done, total, "scenes looked at"),
                callbacks=[progress],
            )
    print(
        f"{result.model}: average precision {result.matches.average_precision(20):.4f} on faces of 20 pixels and more"
    )


def _commands(before: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The commands that made what a model learns from, each once, and this one."""
    return tuple(dict.fromkeys([*(one for some in before for one in some), command_line()]))


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one, to change it into one's own.")] = None,
) -> None:
    """List the recipes that `train` knows, or print one.

    \b
    Example: fer-edge recipes edge > mine.toml
    """
    from fer_edge_train.recipe import load_recipe, recipe_names, recipe_text

    if name:
        print(recipe_text(name), end="")
        return
    names = recipe_names()
    for one in names:
        print(f"{one:<{max(map(len, names)) + 2}}{load_recipe(one).summary}")


@app.command()
def convert(
    model: Annotated[
        Path, typer.Argument(help="A .keras, .h5 or .hdf5 file, a SavedModel folder, or a float .tflite.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The .tflite to write.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Faces, or a detector's images, to measure ranges and to compare on, in a form that train takes."
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Full-integer int8, input and output too.")] = False,
    int16x8: Annotated[bool, typer.Option("--int16x8", help="Activations in int16, weights in int8.")] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Weights in int8, activations in floats.")] = False,
    float16: Annotated[bool, typer.Option("--float16", help="Weights in float16.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="As it is.")] = False,
    quantize: Annotated[
        Literal["int8", "int16x8", "dynamic", "float16", "float32"] | None, typer.Option(help="The same by name.")
    ] = None,
    labels: Labels = None,
    input_range: InputRange = None,
    size: Annotated[int | None, typer.Option(min=16, max=1024, help="Side of an image, if it takes any.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Faces to measure ranges on instead of --data's.")] = None,
    max_drop: Annotated[float, typer.Option(min=0, max=100, help="Refuse a model that is so many points worse.")] = 1.0,
    rescue: Annotated[bool, typer.Option("--rescue", help="Try other ways before refusing.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where the report goes, less .html and .json; OUT.parity by default.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(help="For a detector's second stage: the .tflite of the first.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run code that is stored in the model, in a Lambda layer.")
    ] = False,
    usage: Usage = None,
    votes: Votes = None,
    label_map: LabelMap = None,
) -> None:
    """Quantise a model, compare both, and refuse what lost too much.

    \b
    Example: fer-edge convert runs/edge/model.keras --int8 --data fer2013.csv -o edge.tflite
    """
    chosen = {"int8": int8, "int16x8": int16x8, "dynamic": dynamic, "float16": float16, "float32": float32}
    scheme = _one_of(chosen, quantize)
    need("convert", "ai_edge_quantizer")
    if model.suffix != ".tflite":
        need("convert", "keras", "tensorflow", "tf_keras")
    from fer_edge.datasets.readers import ensure_there
    from fer_edge.modelcard.archive import is_detector, is_refiner, read_labels
    from fer_edge.utils.native_stderr import native_stderr_hidden

    comparing = {"report": report, "usage": usage, "votes": votes, "map": label_map}
    _refuse_idle(scheme, data, comparing, {"calibrate": calibrate, "rescue": rescue})
    if not is_refiner(model):
        _refuse({"detector": detector}, "is for a detector's second stage; leave it out", f"{model}: none, and ")
    if is_detector(model) or is_refiner(model):
        classifiers = {"labels": labels, "input-range": input_range, "size": size, "usage": usage}
        _refuse(
            {**classifiers, "votes": votes, "map": label_map},
            "is for classifiers; leave it out",
            f"{model}: a face detector, and ",
        )
        _convert_detector(
            model,
            out,
            scheme,
            data,
            calibrate,
            detector,
            max_drop=max_drop,
            rescue=rescue,
            report=report,
            unsafe=unsafe,
        )
        return
    for path in filter(None, (data, calibrate)):
        ensure_there(path)
    with native_stderr_hidden():
        from fer_edge_convert.conversion import convert as run_conversion
        from fer_edge_convert.quantisation import Scheme
        from fer_edge_convert.report import summary
        from fer_edge_convert.result import RefusedError
        from fer_edge_convert.sources import open_source

        source = open_source(model, size=size, unsafe=unsafe)
        names = read_labels(labels) if labels else ()
        dataset = _faces_of(data, votes, label_map, source)
        calibration = _faces_of(calibrate, None, None, source)
        card = _card_for(source, names, input_range, dataset, usage)
        try:
            done = run_conversion(
                source,
                card,
                Scheme(scheme),
                out,
                data=dataset,
                calibration=calibration,
                usage=usage,
                max_drop=max_drop,
                rescue=rescue,
                report=report,
                command=command_line(),
            )
        except RefusedError as error:
            for warning in error.warnings:
                print(f"fer-edge: {warning}", file=sys.stderr)
            raise
    for warning in done.warnings:
        print(f"fer-edge: {warning}", file=sys.stderr)
    print(f"{out}: {done.scheme}, made of {model} ({done.kind})")
    for line in summary(done):
        print(line)
    if done.scheme.calibrated and done.float_operators:
        why = "which --rescue left" if done.kept_in_floats else "of which the quantiser has no integer form"
        print(f"in floats   {', '.join(done.float_operators)}, {why}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A .keras or .tflite with a card, or edge or edge-plus.")],
    data: Annotated[list[Path], typer.Argument(help=f"{FORMS} Of several, the test part of each.")],
    usage: Usage = None,
    votes: Votes = None,
    label_map: LabelMap = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled faces.

    \b
    Example: fer-edge evaluate edge.tflite fer2013.csv
    """
    from fer_edge.classification.classifier import TFLiteClassifier
    from fer_edge.classification.metrics import measure
    from fer_edge.datasets.dataset import fuse
    from fer_edge.model_zoo import find_model
    from fer_edge.utils.native_stderr import native_stderr_hidden

    if model.suffix == ".keras":
        need("train", "keras")
        need_keras_backend()
        with native_stderr_hidden():
            from fer_edge_convert.keras_classifier import KerasClassifier

            classifier: TFLiteClassifier | KerasClassifier = KerasClassifier(model)
    else:
        classifier = TFLiteClassifier(find_model(model))
    side = classifier.card.input.height
    _check_square(model, side, classifier.card.input.width, "give a model that takes square ones")
    each = [one.usage(usage) for one in _loaded(data, votes, label_map, side, majority=votes is not None)]
    part = fuse(each)
    truth = part.classes_for(classifier.card.labels)
    metrics = measure(classifier.classify(part.faces), truth, classifier.card.labels)
    if as_json:
        print_json(
            {"model": str(model), "data": [str(path) for path in data], "usages": _usages(part), **fields(metrics)}
        )
    else:
        judged = (f"{' and '.join(_usages(one))} of {path}" for path, one in zip(data, each, strict=True))
        print(f"{model} on {' and '.join(judged)}")
        _print_metrics(metrics)


def _usages(dataset: Dataset) -> list[str]:
    return sorted(set(dataset.usages.tolist()))


def _check_square(model: Path, height: int, width: int, advice: str) -> None:
    if height != width:
        raise InputError(
            f"{model}: it takes {width}x{height}, and only square images can be read from datasets; {advice}"
        )


def _one_of(chosen: dict[str, bool], named: str | None) -> str:
    """The one way of quantising that was asked for."""
    wanted = {name for name, asked in chosen.items() if asked} | ({named} if named else set())
    if len(wanted) != 1:
        raise InputError("say in one way how to quantise: --int8, --int16x8, --dynamic, --float16 or --float32")
    return wanted.pop()


def _refuse_idle(
    scheme: str, data: Path | None, comparing: Mapping[str, object], measuring: Mapping[str, object]
) -> None:
    if not data:
        _refuse(comparing, "is for comparing both models on faces: give --data, too")
    if scheme not in {"int8", "int16x8"}:
        _refuse(measuring, f"does nothing for {scheme}, which measures no ranges; leave it out")


def _refuse(options: Mapping[str, object], why: str, where: str = "") -> None:
    """Refuse options that would do nothing."""
    for name, value in options.items():
        if value:
            raise InputError(f"{where}--{name} {why}")


def _convert_detector(
    model: Path,
    out: Path,
    scheme: str,
    data: Path | None,
    calibrate: Path | None,
    detector: Path | None,
    *,
    max_drop: float,
    rescue: bool,
    report: Path | None,
    unsafe: bool,
) -> None:
    if scheme == "int16x8":
        raise InputError(f"{model}: a face detector, which LiteRT cannot run with --int16x8; use --int8 or --float16")
    from fer_edge.datasets.faces import load_faces
    from fer_edge.modelcard.archive import is_refiner
    from fer_edge.utils.native_stderr import native_stderr_hidden

    if is_refiner(model) and not detector:
        raise InputError(f"{model}: a detector's second stage; give the .tflite of the first one: --detector FILE")
    with native_stderr_hidden():
        from fer_edge_convert.detector_conversion import FirstStage, SecondStage, convert_detector, summary
        from fer_edge_convert.quantisation import Scheme
        from fer_edge_convert.sources import open_detector, open_refiner

        source = (
            SecondStage(open_refiner(model, detector, unsafe=unsafe))
            if detector
            else FirstStage(open_detector(model, unsafe=unsafe))
        )
        ranges = calibrate or data
        done = convert_detector(
            source,
            Scheme(scheme),
            out,
            test=load_faces(data, "val") if data else None,
            calibration=load_faces(ranges, "train") if ranges else None,
            max_drop=max_drop,
            rescue=rescue,
            report=report,
            command=command_line(),
        )
    print(f"{out}: {done.scheme}, made of {model} ({done.kind})")
    for line in summary(done):
        print(line)


def _faces_of(path: Path | None, votes: Path | None, label_map: Path | None, source: Source) -> Dataset | None:
    if not path:
        return None
    _check_square(source.path, source.height, source.width, "convert it without --data and --calibrate")
    return _datasets([path], votes, label_map, source.height, majority=votes is not None)


def _card_for(
    source: Source, labels: tuple[str, ...], input_range: str | None, dataset: Dataset | None, usage: str | None
) -> ClassifierCard:
    """What a model to convert takes and gives, as far as it, the user or the data says."""
    from fer_edge.modelcard.schema import INPUT_RANGES
    from fer_edge_convert.conversion import infer_range

    if input_range is None and source.card is None and dataset is not None:
        known = source.described(labels, INPUT_RANGES["0..1"]).labels
        input_range = infer_range(source, known, dataset, usage)
        print(f"input range {input_range}, with which it is right most often", file=sys.stderr)
    return source.described(labels, INPUT_RANGES[input_range] if input_range else None)


def _dataset(path: Path, side: int) -> Dataset:
    from fer_edge.datasets.readers import load_dataset
    from fer_edge.utils.native_stderr import native_stderr_hidden

    with native_stderr_hidden():  # what image libraries say of damaged images
        dataset = load_dataset(path, side)
    for line in dataset.skipped:
        print(f"fer-edge: left out: {line}", file=sys.stderr)
    return dataset


def _training_faces(path: Path) -> npt.NDArray[np.uint8]:
    """Faces that a classifier may be trained on, so that none of its tests' is seen by what finds them."""
    from fer_edge.datasets.dataset import TRAINING

    dataset = _dataset(path, 48)
    faces: npt.NDArray[np.uint8] = dataset.faces[dataset.usages == TRAINING]
    return faces


def _datasets(paths: list[Path], votes: Path | None, label_map: Path | None, side: int, *, majority: bool) -> Dataset:
    """All datasets as one, as `_loaded`."""
    from fer_edge.datasets.dataset import fuse

    return fuse(_loaded(paths, votes, label_map, side, majority=majority))


def _loaded(
    paths: list[Path], votes: Path | None, label_map: Path | None, side: int, *, majority: bool
) -> list[Dataset]:
    """Each dataset; the votes are for the first CSV, whose classes are their majority if so wanted."""
    from fer_edge.datasets.dataset import by_majority
    from fer_edge.datasets.readers import load_map, with_votes

    mapped = load_map(label_map) if label_map else None
    loaded = {path.name: _dataset(path, side) for path in paths}
    if len(loaded) < len(paths):
        raise InputError("two datasets of one name; call their files or folders differently")
    table = next((name for name, dataset in loaded.items() if dataset.name.lower().endswith(".csv")), paths[0].name)
    if votes:
        loaded[table] = with_votes(loaded[table], votes)
    if majority:
        loaded[table] = by_majority(loaded[table])
    return mapped.apply(loaded) if mapped else list(loaded.values())


def _describe(dataset: Dataset, parts: Parts) -> None:
    """Say what was read, what will be done with it, and which faces are on both sides."""
    import numpy as np

    print(f"{dataset.name}: {len(dataset)} faces, {len(dataset.skipped)} images unreadable", file=sys.stderr)
    for line in dataset.left_out:
        print(f"  left out: {line}", file=sys.stderr)
    for name, rows in parts.named().items():
        counts = np.bincount(dataset.classes[rows], minlength=len(dataset.labels))
        each = ", ".join(f"{label} {count}" for label, count in zip(dataset.labels, counts, strict=True))
        repeated = np.isin(rows, parts.repeated).sum()
        also = f"; {repeated} of them near-duplicates of faces trained on" if repeated else ""
        print(f"  {name}: {counts.sum()} ({each}){also}", file=sys.stderr)


def _print_metrics(metrics: Metrics) -> None:
    print(f"accuracy {metrics.accuracy:.2%} of {metrics.faces} faces", end="")
    print(f", macro F1 {metrics.macro_f1:.3f}, expected calibration error {metrics.ece:.3f}")
    wide = max(8, *map(len, metrics.classes)) + 2
    print(f"{'':<{wide}}{'precision':>9}{'recall':>8}{'F1':>8}{'faces':>7}   predicted:", end="")
    print("".join(f"{name:>{wide}}" for name in metrics.classes))
    for (label, one), row in zip(metrics.classes.items(), metrics.confusion, strict=True):
        print(f"{label:<{wide}}{one.precision:>9.3f}{one.recall:>8.3f}{one.f1:>8.3f}{one.support:>7}", end="")
        print(" " * 13 + "".join(f"{count:>{wide}}" for count in row))
