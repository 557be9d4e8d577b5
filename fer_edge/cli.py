"""The command line.

Every command imports what it needs when it runs: `fer-edge --help` loads neither OpenCV nor a
runtime, and nothing but `train`, `convert` and `evaluate` of a .keras file loads TensorFlow.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from fer_edge.errors import FerEdgeError, InputError, MissingExtraError, first_line

if TYPE_CHECKING:
    from fer_edge.card import Card
    from fer_edge.classify import TFLiteClassifier
    from fer_edge.datasets import Dataset
    from fer_edge.faces import FaceDetector
    from fer_edge.metrics import Metrics
    from fer_edge_convert.sources import Source
    from fer_edge_train.split import Parts

app = typer.Typer(
    name="fer-edge",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

_INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended

_FORMS = "fer2013.csv, a folder with train/ and test/, or a zip or tar of either."
Data = Annotated[Path, typer.Argument(help=_FORMS)]
Votes = Annotated[Path | None, typer.Option(help="FER+'s fer2013new.csv: judge by the majority of its votes.")]
Model = Annotated[
    Path | None, typer.Option(help="A .tflite with a card, or edge or edge-plus, which are shipped; edge by default.")
]
Detector = Annotated[Literal["haar", "yunet"], typer.Option(help="What finds faces.")]
DetectorModel = Annotated[Path | None, typer.Option(help="YuNet's ONNX file, for --detector yunet.")]
MinFace = Annotated[
    int | None,
    typer.Option(
        min=24, help="Side of the smallest face to find, in pixels; by default 1/16 of the picture's longer side."
    ),
]
Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the classifier.")]
LabelMap = Annotated[
    Path | None, typer.Option("--map", help="TOML file that says which label of which dataset becomes which.")
]
Usage = Annotated[str | None, typer.Option(help="Rows to test on; by default neither Training nor validation.")]
Labels = Annotated[
    str | None, typer.Option(help="Names of the outputs in order: angry,disgust,... or a file with one a line.")
]
InputRange = Annotated[
    Literal["0..1", "-1..1", "0..255"] | None, typer.Option(help="Values that pixels had in training.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IsFace = Annotated[bool, typer.Option("--face", help="The pictures are face crops already.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,  # noqa: ARG001
) -> None:
    """Facial-expression recognition for a Raspberry Pi: train, convert, run, measure, tag.

    \b
    Example: fer-edge run --source demo
    """
    if version:
        print(_version())
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def train(
    data: Annotated[Path | None, typer.Argument(help=_FORMS)] = None,
    more: Annotated[
        list[Path] | None, typer.Option("--data", help="Another dataset, fused with the first; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for model.keras, history.csv and report/.")] = ...,  # type: ignore[assignment]
    recipe: Annotated[str, typer.Option(help="Name of a recipe, or a .toml file.")] = "edge",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe; may be repeated."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Instead of the recipe's.")] = None,
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
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
) -> None:
    """Train a Keras CNN on labelled faces.

    \b
    Example: fer-edge train fer2013.csv --votes fer2013new.csv --out runs/edge
    """
    _need("train", "keras", "sklearn", "matplotlib", "tomli_w")
    _need_keras_backend()
    from fer_edge.native import native_stderr_hidden

    paths = [*([data] if data else []), *(more or [])]
    if not paths:
        raise InputError("no data to train on: give fer2013.csv, or --data once for each dataset")
    with native_stderr_hidden():
        from rich.console import Console

        from fer_edge_train.progress import TrainingProgress, tensorboard_callback
        from fer_edge_train.recipe import load_recipe
        from fer_edge_train.split import divide
        from fer_edge_train.teachers import SoftLabels, Teachers, soft_labels_for
        from fer_edge_train.training import check_start, prepared
        from fer_edge_train.training import train as run_training

        changes = [*(settings or []), *([f"schedule.epochs={epochs}"] if epochs else [])]
        how = load_recipe(recipe, changes)
        check_start(how, out, taught=bool(teacher or soft_labels), resume=resume)
        majority = how.target.protocol == "ferplus"
        dataset = prepared(_datasets(paths, votes, label_map, how.data.side, majority=majority), how)
        parts = divide(dataset, how.data.validation, how.seed, how.optimizer.batch_size)
        _describe(dataset, parts)
        taught: SoftLabels | Teachers | None = None
        if soft_labels and how.target.every_view:
            raise InputError(
                "--soft-labels are about the faces as they are; with target.every_view give --teacher alone"
            )
        if teacher and how.target.every_view:
            taught = Teachers(teacher, dataset.labels)
        elif teacher or soft_labels:
            taught = soft_labels_for(dataset, teacher or [], soft_labels)
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
                command=_command(),
                callbacks=[progress, *([tensorboard_callback(tensorboard)] if tensorboard else [])],
            )
    print(f"{result.model}: {result.validation.accuracy:.2%} of {result.validation.faces} held-out faces right")
    if result.test:
        _print_metrics(result.test)


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
        Path | None, typer.Option(help="Faces to measure ranges and to compare on, in a form that train takes.")
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
    size: Annotated[int | None, typer.Option(min=16, max=1024, help="Side of a picture, if it takes any.")] = None,
    calibrate: Annotated[Path | None, typer.Option(help="Faces to measure ranges on instead of --data's.")] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Refuse a model that is so many points less accurate.")
    ] = 1.0,
    rescue: Annotated[bool, typer.Option("--rescue", help="Try other ways before refusing.")] = False,
    report: Annotated[
        Path | None, typer.Option(help="Where the report goes, less .html and .json; OUT.parity by default.")
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
    wanted = {name for name, asked in chosen.items() if asked} | ({quantize} if quantize else set())
    if len(wanted) != 1:
        raise InputError("say in one way how to quantise: --int8, --int16x8, --dynamic, --float16 or --float32")
    _need("convert", "ai_edge_quantizer")
    if model.suffix != ".tflite":
        _need("convert", "keras", "tensorflow", "tf_keras")
    from fer_edge.card import read_labels
    from fer_edge.native import native_stderr_hidden

    with native_stderr_hidden():
        from fer_edge_convert.conversion import RefusedError
        from fer_edge_convert.conversion import convert as run_conversion
        from fer_edge_convert.quantisation import Scheme
        from fer_edge_convert.report import summary
        from fer_edge_convert.sources import open_source

        source = open_source(model, size=size, unsafe=unsafe)
        names = read_labels(labels) if labels else ()
        if (data or calibrate) and source.height != source.width:
            raise InputError(
                f"{model}: it takes {source.width}x{source.height}, and only square pictures can be read from"
                " datasets; convert it without --data and --calibrate"
            )
        dataset = _faces_of(data, votes, label_map, source.height)
        calibration = _faces_of(calibrate, None, None, source.height)
        card = _card_for(source, names, input_range, dataset, usage)
        try:
            done = run_conversion(
                source,
                card,
                Scheme(wanted.pop()),
                out,
                data=dataset,
                calibration=calibration,
                usage=usage,
                max_drop=max_drop,
                rescue=rescue,
                report=report,
                command=_command(),
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
    data: Data,
    usage: Usage = None,
    votes: Votes = None,
    label_map: LabelMap = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model on labelled faces.

    \b
    Example: fer-edge evaluate edge.tflite fer2013.csv
    """
    from fer_edge.classify import TFLiteClassifier, find_model
    from fer_edge.metrics import measure
    from fer_edge.native import native_stderr_hidden

    if model.suffix == ".keras":
        _need("train", "keras")
        _need_keras_backend()
        with native_stderr_hidden():
            from fer_edge_convert.keras_classifier import KerasClassifier

            classifier: TFLiteClassifier | KerasClassifier = KerasClassifier(model)
    else:
        classifier = TFLiteClassifier(find_model(model))
    side = classifier.card.input.height
    part = _datasets([data], votes, label_map, side, majority=votes is not None).usage(usage)
    truth = part.classes_for(classifier.card.labels)
    metrics = measure(classifier.classify(part.faces), truth, classifier.card.labels)
    parts = sorted(set(part.usages.tolist()))
    if as_json:
        _print_json({"model": str(model), "data": str(data), "usages": parts, **_fields(metrics)})
    else:
        print(f"{model} on {' and '.join(parts)} of {data}")
        _print_metrics(metrics)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or edge or edge-plus.")],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Draw the network on a page of its own.")] = None,
) -> None:
    """Show what is inside a .tflite file.

    \b
    Example: fer-edge inspect edge.tflite --html edge.html
    """
    from fer_edge.classify import find_model
    from fer_edge.files import replacing
    from fer_edge.inspection import as_html, inspect_model

    found = inspect_model(find_model(model))
    if html:
        with replacing(html) as temporary:
            temporary.write_text(as_html(found), encoding="utf-8")
    if as_json:
        _print_json(found)
        return
    print(f"{found.path}  {found.bytes / 1e3:.1f} kB  sha256 {found.sha256}")
    damaged = "" if found.intact else ", which is not what its card says: damaged"
    print(f"{'flatbuffer':<15}sha256 {found.flatbuffer_sha256}{damaged}")
    for name, tensor in (("input", found.input), ("output", found.output)):
        real = f", real = {tensor.scale:g} * (stored - {tensor.zero_point})" if tensor.scale else ""
        print(f"{name:<15}{tensor.dtype} {list(tensor.shape)}{real}")
    print(f"{'operators':<15}{', '.join(f'{name} x{count}' for name, count in found.operators.items())}")
    for i, layer in enumerate(found.layers, start=1):
        types = "/".join(dict.fromkeys(node.dtype.lower() for node in (*layer.inputs, *layer.outputs)))
        cost = f"{layer.multiply_adds / 1e6:8.2f} M {layer.constant_bytes / 1e3:8.1f} kB"
        shape = "x".join(map(str, layer.outputs[0].shape if layer.outputs else ()))
        print(f"  {i:>3}  {layer.kind:<22}{cost}  {shape:<16}{types}")
    print(f"{'multiply-adds':<15}{found.multiply_adds / 1e6:.1f} million")
    print(f"{'parameters':<15}{found.parameters}")
    print(f"{'activation':<15}{found.largest_activation_bytes / 1e3:.1f} kB, the largest")
    print(f"{'integer only':<15}{'yes' if found.integer_only else 'no'}")
    print(f"{'XNNPACK':<15}{found.delegation}")
    print(f"{'metadata':<15}{', '.join(found.metadata) or 'none'}")
    card = found.card
    if card is None:
        print(f"{'card':<15}none: give it one with `fer-edge card set`, or convert it with `fer-edge convert`")
        return
    print(f"{'card':<15}{card.name}, schema {card.schema}, {card.task}")
    print(f"{'labels':<15}{', '.join(card.labels)}")
    spec = card.input
    print(f"{'picture':<15}{spec.width}x{spec.height}x{spec.channels}, real = pixel * {spec.scale:g} + {spec.offset:g}")
    for name, score in card.scores.items():
        print(f"{'score':<15}{name}: {score:.4f}")
    print(f"{'data':<15}{card.data}")
    for made_by in card.made_by:
        print(f"{'made by':<15}{made_by}")
    print(f"{'note':<15}{card.note}")


cards = typer.Typer(name="card", help="What a model says of itself.", rich_markup_mode=None)
app.add_typer(cards)


@cards.callback()
def card_root() -> None:
    """Change what a model says of itself; `fer-edge inspect` shows it.

    \b
    Example: fer-edge card set theirs.tflite --labels angry,happy,neutral --input-range 0..1
    """


@cards.command("set")
def card_set(
    model: Annotated[Path, typer.Argument(help="A .tflite file of whatever origin.")],
    labels: Labels = None,
    input_range: InputRange = None,
) -> None:
    """Say what a model takes and gives, once, in the file.

    \b
    Example: fer-edge card set theirs.tflite --labels angry,happy,neutral --input-range 0..1
    """
    from fer_edge.card import INPUT_RANGES, read_labels
    from fer_edge.classify import set_card

    names = read_labels(labels) if labels else ()
    card = set_card(model, names, INPUT_RANGES[input_range] if input_range else None)
    spec = card.input
    print(f"{model}: {spec.width}x{spec.height}x{spec.channels}, real = pixel * {spec.scale:g} + {spec.offset:g}")
    print(f"labels {', '.join(card.labels)}")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    model: Model = None,
    face: IsFace = False,
    save: Annotated[Path | None, typer.Option(help="Write the annotated picture here.")] = None,
    as_json: AsJson = False,
    detector: Detector = "haar",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
) -> None:
    """Show the faces of pictures and how they look.

    \b
    Example: fer-edge predict photo.jpg --save annotated.png
    """
    from fer_edge.analyse import expressions, save_annotated
    from fer_edge.errors import DataError
    from fer_edge.native import native_stderr_hidden
    from fer_edge.pictures import read_gray

    if save and len(images) > 1:
        raise InputError("--save takes one picture; `fer-edge tag` is for many")
    classifier = _classifier(model)
    finder = None if face else _detector(detector, detector_model, min_face)
    failed = False
    for image in images:
        try:
            with native_stderr_hidden():  # what image libraries say of damaged pictures
                found = expressions(read_gray(image), finder, classifier)
        except DataError as error:
            failed = True
            print(f"fer-edge: {error}", file=sys.stderr)
            continue
        if save:
            save_annotated(image, found, save)
        if as_json:
            _print_json({"path": str(image), "faces": found}, indent=None)
            continue
        for one in found:
            x, y, width, height = (round(value) for value in one.box)
            others = ", ".join(f"{name} {score:.0%}" for name, score in one.scores.items() if name != one.emotion)
            print(f"{image}: {one.emotion} {one.score:.0%} at {x},{y} {width}x{height} ({others})")
        if not found:
            print(f"{image}: no face found")
    if failed:
        raise typer.Exit(2)


@app.command()
def tag(
    paths: Annotated[list[Path], typer.Argument(help="Pictures and folders of pictures.")],
    out: Annotated[Path, typer.Option(help="Table to write: .jsonl or .csv.")],
    model: Model = None,
    face: IsFace = False,
    detector: Detector = "haar",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
    threads: Threads = 1,
) -> None:
    """Tag folders of pictures, a row a face.

    A picture without a face, or one that cannot be read, is a row too.

    \b
    Example: fer-edge tag holiday/ --out tags.jsonl
    """
    from rich.console import Console
    from rich.progress import Progress

    from fer_edge.native import native_stderr_hidden
    from fer_edge.tag import find_pictures
    from fer_edge.tag import tag as write_table

    pictures = find_pictures(paths)
    classifier = _classifier(model, threads)
    finder = None if face else _detector(detector, detector_model, min_face)
    with native_stderr_hidden():  # what image libraries say of damaged pictures
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("tagging", total=len(pictures))
            summary = write_table(pictures, out, finder, classifier, seen=lambda: progress.advance(task))
    counts = ", ".join(f"{name} {count}" for name, count in summary.emotions.items() if count)
    print(f"{out}: {summary.pictures} pictures, {summary.faces} faces, {summary.errors} unreadable")
    if counts:
        print(counts)


@app.command()
def bench(
    model: Annotated[Path | None, typer.Argument(help="A .tflite with a card, or edge or edge-plus.")] = None,
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Times each job is done.")] = 200,
    as_json: AsJson = False,
    detector: Detector = "haar",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
) -> None:
    """Measure latency on this machine.

    Of the classifier, the detector and a whole frame.

    \b
    Example: fer-edge bench --threads 2 --runs 500
    """
    from fer_edge.bench import benchmark

    finder = _detector(detector, detector_model, min_face)
    result = benchmark(_classifier(model, threads), finder, detector_name=detector, threads=threads, runs=runs)
    if as_json:
        _print_json(result)
        return
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    before, after = result.temperature_c
    heat = "temperature unknown" if None in {before, after} else f"{before} -> {after} degrees C"
    print(f"{result.machine}, {result.cores} cores, {heat}; {result.runtime}, {versions}")
    print(f"{result.model} (sha256 {result.sha256[:12]}), {threads} thread{'s' * (threads > 1)}; {detector} detector")
    print(f"frames of {result.frame[0]}x{result.frame[1]} with {result.faces} faces on average; {runs} runs")
    print(f"{'milliseconds':<14}{'min':>9}{'median':>9}{'p95':>9}{'p99':>9}")
    for name in ("classifier", "detect", "whole_frame"):
        row = getattr(result, name)
        print(f"{name.replace('_', ' '):<14}{row.min:>9.3f}{row.median:>9.3f}{row.p95:>9.3f}{row.p99:>9.3f}")


@app.command()
def run(
    source: Annotated[
        str, typer.Option(help="auto, picamera2, demo, N, /dev/videoN, rtsp://..., a film or a folder of pictures.")
    ] = "auto",
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after this much of the source's time.")] = None,
    node: Annotated[str | None, typer.Option(help="Name in the topics; the host's by default.")] = None,
    model: Model = None,
    detector: Detector = "haar",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
    threads: Threads = 1,
    width: Annotated[int, typer.Option(min=64, help="Wanted columns of a camera's frames.")] = 640,
    height: Annotated[int, typer.Option(min=64, help="Wanted rows of a camera's frames.")] = 480,
    realtime: Annotated[
        bool | None,
        typer.Option("--realtime/--full-speed", help="Pace of a film; the demo plays in real time, others do not."),
    ] = None,
) -> None:
    """Watch a source and print what happens.

    One MQTT-ready JSON message a line.

    \b
    Example: fer-edge run --source /dev/video0 --node kitchen
    """
    from fer_edge_device.app import run_source

    summary = run_source(
        source,
        classifier=_classifier(model, threads),
        detector=_detector(detector, detector_model, min_face),
        node=node,
        seconds=seconds,
        size=(width, height),
        realtime=realtime,
        version=_version(),
    )
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    print(
        f"{summary.frames} frames in {summary.seconds:.1f} s ({rate:.1f} fps), {summary.events['new']} faces\n"
        f"{summary.events.total()} events: {summary.events['new']} new, {summary.events['update']} update,"
        f" {summary.events['end']} end",
        file=sys.stderr,
    )
    if summary.interrupted:
        raise typer.Exit(_INTERRUPTED)


def main() -> None:
    """Run the command line; every failure is one line, and a traceback only with ``--debug``."""
    _set_up_process()
    try:
        status = app(standalone_mode=False)
        if status == _INTERRUPTED and sys.stderr is not None:
            print("fer-edge: stopped", file=sys.stderr)
        sys.exit(status)
    except FerEdgeError as error:
        _fail(str(error), error.exit_status)
    except OSError as error:  # a full disk, a permission: what the machine says is what there is to say
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("stopped", _INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last resort
        if hasattr(error, "format_message"):  # a usage error, of whichever click typer brings
            context = getattr(error, "ctx", None)
            help_for = f"{context.info_name} " if context is not None and context.parent else ""
            what = error.format_message().rstrip(".")
            print(f"fer-edge: {what}; `fer-edge {help_for}--help` shows how", file=sys.stderr)
            sys.exit(2)
        what = f"{type(error).__name__}: {first_line(error)}"
        _fail(f"internal error: {what}; `fer-edge --debug ...` shows where; please report it", 1)


def _set_up_process() -> None:
    if logging.lastResort:  # warnings look like all else that is said; nothing but the command line sets this up
        logging.lastResort.setFormatter(logging.Formatter("fer-edge: %(message)s"))
    # OpenCV's and FFmpeg's own words on a damaged file or an absent camera; ours say which, and what to do.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGTERM, signal.SIGHUP):  # an exit, so that what is half-written is taken away
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _fail(message: str, status: int) -> NoReturn:
    if "--debug" in sys.argv:
        raise  # noqa: PLE0704 - called from main's handlers alone
    if sys.stderr is not None:
        print(f"fer-edge: {message}", file=sys.stderr)
    sys.exit(status)


def _classifier(model: Path | None, threads: int = 1) -> TFLiteClassifier:
    from fer_edge.classify import DEFAULT_MODEL, TFLiteClassifier, find_model

    return TFLiteClassifier(find_model(model) if model else DEFAULT_MODEL, threads)


def _detector(name: Literal["haar", "yunet"], model: Path | None, min_face: int | None) -> FaceDetector:
    from fer_edge.faces import make_detector

    return make_detector(name, model, min_face)


def _faces_of(path: Path | None, votes: Path | None, label_map: Path | None, side: int) -> Dataset | None:
    return _datasets([path], votes, label_map, side, majority=votes is not None) if path else None


def _card_for(
    source: Source, labels: tuple[str, ...], input_range: str | None, dataset: Dataset | None, usage: str | None
) -> Card:
    """What a model to convert takes and gives, as far as it, the user or the data says."""
    from fer_edge.card import INPUT_RANGES
    from fer_edge_convert.conversion import infer_range

    if input_range is None and source.card is None and dataset is not None:
        known = source.described(labels, INPUT_RANGES["0..1"]).labels
        input_range = infer_range(source, known, dataset, usage)
        print(f"input range {input_range}, with which it is right most often", file=sys.stderr)
    return source.described(labels, INPUT_RANGES[input_range] if input_range else None)


def _need(extra: str, *modules: str) -> None:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(" and ".join(missing), extra)


def _need_keras_backend() -> None:
    """Have Keras calculate with what is installed, unless it was told with what."""
    installed = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
    if not installed:
        raise InputError("Keras needs something to calculate with: pip install tensorflow, torch or jax")
    wanted = os.environ.get("KERAS_BACKEND")
    if wanted and wanted not in installed:
        raise InputError(f"KERAS_BACKEND is {wanted}, which is not installed; there is {', '.join(installed)}")
    if "tensorflow" not in installed:
        os.environ.setdefault("KERAS_BACKEND", installed[0])


def _command() -> str:
    """The command line that makes a model anew, for its card: as it was typed, less what only goes on with a run."""
    from fer_edge.errors import printable

    return printable(shlex.join(["fer-edge", *(word for word in sys.argv[1:] if word != "--resume")]))


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("fer-edge")


def _dataset(path: Path, side: int) -> Dataset:
    from fer_edge.dataset_files import load_dataset
    from fer_edge.native import native_stderr_hidden

    with native_stderr_hidden():  # what image libraries say of damaged pictures
        dataset = load_dataset(path, side)
    for line in dataset.skipped:
        print(f"fer-edge: left out: {line}", file=sys.stderr)
    return dataset


def _datasets(paths: list[Path], votes: Path | None, label_map: Path | None, side: int, *, majority: bool) -> Dataset:
    """All datasets as one; the votes are for the first CSV, whose classes are their majority if so wanted."""
    from fer_edge.dataset_files import load_map, with_votes
    from fer_edge.datasets import by_majority, fuse

    mapped = load_map(label_map) if label_map else None
    loaded = {path.name: _dataset(path, side) for path in paths}
    if len(loaded) < len(paths):
        raise InputError("two datasets of one name; call their files or folders differently")
    table = next((name for name, dataset in loaded.items() if dataset.name.lower().endswith(".csv")), paths[0].name)
    if votes:
        loaded[table] = with_votes(loaded[table], votes)
    if majority:
        loaded[table] = by_majority(loaded[table])
    return fuse(mapped.apply(loaded) if mapped else list(loaded.values()))


def _describe(dataset: Dataset, parts: Parts) -> None:
    """Say what was read, what will be done with it, and which faces are on both sides."""
    import numpy as np

    print(f"{dataset.name}: {len(dataset)} faces, {len(dataset.skipped)} pictures unreadable", file=sys.stderr)
    for line in dataset.left_out:
        print(f"  left out: {line}", file=sys.stderr)
    for name, rows in parts.named().items():
        counts = np.bincount(dataset.classes[rows], minlength=len(dataset.labels))
        each = ", ".join(f"{label} {count}" for label, count in zip(dataset.labels, counts, strict=True))
        repeated = np.isin(rows, parts.repeated).sum()
        also = f"; {repeated} of them near-duplicates of faces trained on" if repeated else ""
        print(f"  {name}: {counts.sum()} ({each}){also}", file=sys.stderr)


def _fields(value: object) -> dict[str, object]:
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(value)
    return fields


def _print_json(value: object, indent: int | None = 2) -> None:
    import json

    import msgspec

    # The standard library's encoder, because it takes names of files that are not UTF-8.
    print(json.dumps(msgspec.to_builtins(value), indent=indent))


def _print_metrics(metrics: Metrics) -> None:
    print(f"accuracy {metrics.accuracy:.2%} of {metrics.faces} faces", end="")
    print(f", macro F1 {metrics.macro_f1:.3f}, expected calibration error {metrics.ece:.3f}")
    wide = max(8, *map(len, metrics.classes)) + 2
    print(f"{'':<{wide}}{'precision':>9}{'recall':>8}{'F1':>8}{'faces':>7}   predicted:", end="")
    print("".join(f"{name:>{wide}}" for name in metrics.classes))
    for (label, one), row in zip(metrics.classes.items(), metrics.confusion, strict=True):
        print(f"{label:<{wide}}{one.precision:>9.3f}{one.recall:>8.3f}{one.f1:>8.3f}{one.support:>7}", end="")
        print(" " * 13 + "".join(f"{count:>{wide}}" for count in row))


if __name__ == "__main__":
    main()
