"""`fer-edge convert`: make a .tflite of a model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fer_edge.cli.loading import check_square, load_fused_dataset
from fer_edge.cli.needs import need
from fer_edge.cli.options import InputRange, LabelMap, Labels, Split, Usage, Votes
from fer_edge.cli.output import command_line, say, warn
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError
from fer_edge.model_zoo import missing_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_convert.classifier_stage import ClassifierStage
    from fer_edge_convert.description import Statement
    from fer_edge_convert.detector_stage import DetectorStage
    from fer_edge_convert.formats.request import ReadOptions
    from fer_edge_convert.quantization import Scheme
    from fer_edge_convert.result import Conversion
    from fer_edge_convert.sources import SourceModel
    from fer_edge_convert.stage import ParityT, ResultT, Stage

_WITH_ORIGINAL: Final = {".onnx", ".pt2"}  # forms whose own program is there to compare with

app = typer.Typer()


@app.command()
def convert(
    model: Annotated[
        Path,
        typer.Argument(
            help="A .keras, .h5, .hdf5, .onnx or .pt2 file, weights with a .json beside them, a SavedModel, a .tflite."
        ),
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The .tflite to write; required.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Faces, or a detector's images, to measure ranges and to compare on, in a form that train takes."
        ),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Full-integer int8, input and output too.")] = False,
    int16x8: Annotated[bool, typer.Option("--int16x8", help="Activations in int16, weights in int8.")] = False,
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Weights in int8, activations in float32.")] = False,
    float16: Annotated[bool, typer.Option("--float16", help="Weights in float16.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="Not quantized.")] = False,
    quantize: Annotated[
        Literal["int8", "int16x8", "dynamic", "float16", "float32"] | None, typer.Option(help="The scheme by name.")
    ] = None,
    target: Annotated[
        Literal["edgetpu", "hailo", "hailo8", "imx500", "tflite-runtime"] | None,
        typer.Option(
            "--for",
            help="Accelerator to compile for: the Edge TPU, Hailo-8L, Hailo-8 or IMX500, not tried on hardware; or"
            " tflite-runtime, of 32-bit systems.",
        ),
    ] = None,
    labels: Labels = None,
    input_range: InputRange = None,
    input_mean: Annotated[
        str | None,
        typer.Option(
            help="Mean that was subtracted from pixels in training, of --input-range, or of 0..255: 129 or r,g,b."
        ),
    ] = None,
    input_std: Annotated[
        str | None, typer.Option(help="Deviation by which pixels were divided after that: 65 or r,g,b.")
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Convert even if the data contradicts --labels or --input-range.")
    ] = False,
    output: Annotated[
        str | None, typer.Option(help="Name of the output that gives the expression, of a model with several.")
    ] = None,
    architecture: Annotated[
        Path | None, typer.Option(help="JSON file that describes the layers, for a file of weights.")
    ] = None,
    custom: Annotated[
        Path | None, typer.Option(help="Python file that defines the model's own layers; its code is run.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=16, max=1024, help="Side of the images in pixels, for a model that takes any size."),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Faces to measure ranges on, instead of those of --data.")
    ] = None,
    split: Split = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=100,
            help="Refuse a model that loses more points than this; by default more than 1, if it is not by chance.",
        ),
    ] = None,
    rescue: Annotated[bool, typer.Option("--rescue", help="Try other ways of quantizing before refusing.")] = False,
    allow_float: Annotated[
        bool, typer.Option("--allow-float", help="Leave operators in floats that have no integer form.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Path of the report without .html and .json; by default OUT.parity.")
    ] = None,
    detector: Annotated[
        Path | None, typer.Option(help="For the second stage of a detector: the .tflite of the first.")
    ] = None,
    unsafe: Annotated[
        bool, typer.Option("--unsafe", help="Run code that is stored in the model, such as a Lambda layer.")
    ] = False,
    usage: Usage = None,
    votes: Votes = None,
    label_map: LabelMap = None,
) -> None:
    """Convert a model to .tflite, compare both, and refuse a model that lost too much.

    \b
    Example: fer-edge convert runs/edge/model.keras --int8 --data fer2013.csv -o edge.tflite
    """
    chosen = {"int8": int8, "int16x8": int16x8, "dynamic": dynamic, "float16": float16, "float32": float32}
    scheme = _choose_scheme(chosen, quantize, target)
    _need_packages(model)
    from fer_edge.datasets.readers import ensure_faces
    from fer_edge.modelcard.reader import is_model_of
    from fer_edge.modelcard.schema import DetectorCard, RefinerCard
    from fer_edge.utils.native_stderr import hide_native_stderr

    comparing = {"split": split, "report": report, "usage": usage, "votes": votes, "map": label_map}
    _refuse_unused(
        scheme,
        data,
        comparing,
        {"calibrate": None if target else calibrate, "rescue": rescue, "allow-float": allow_float},
    )
    if not model.exists():
        raise missing_source(model)
    second = is_model_of(model, RefinerCard)
    if not second:
        _refuse({"detector": detector}, "is for a detector's second stage; leave it out", f"{model}: none, and ")
    is_face_detector = second or is_model_of(model, DetectorCard)
    _check_target(target, model, data or calibrate, is_detector=is_face_detector, is_second_stage=second)
    if is_face_detector:
        classifiers = {
            "labels": labels,
            "input-range": input_range,
            "input-mean": input_mean,
            "input-std": input_std,
            "unchecked": unchecked,
            "output": output,
            "architecture": architecture,
            "custom": custom,
            "size": size,
            "usage": usage,
            "votes": votes,
            "map": label_map,
        }
        _check_detector_options(model, scheme, detector, classifiers)
    else:
        _refuse({"split": split}, "is for face detectors; --usage chooses a part of a classifier's faces")
        for path in filter(None, (data, calibrate)):
            ensure_faces(path)
    with hide_native_stderr(), show_work(f"converting {model}"), _warn_of_refused():
        from fer_edge.classification.label_list import parse_labels
        from fer_edge_convert.conversion import convert as run_conversion
        from fer_edge_convert.description import (
            Statement,
            ask_for_missing,
            ask_for_missing_of_detector,
            read_pixel_options,
        )
        from fer_edge_convert.formats.request import ReadOptions
        from fer_edge_convert.quantization import Scheme

        def run(stage: Stage[ParityT, ResultT], scheme: Scheme, out: Path) -> ResultT:
            return run_conversion(
                stage,
                scheme,
                out,
                max_drop=max_drop,
                rescue=rescue,
                allow_float=allow_float,
                report=report,
                command=command_line(),
            )

        result: Conversion
        stage: ClassifierStage | DetectorStage
        one_dense_scale = _has_one_dense_scale(target)
        wanted = Scheme(scheme) if scheme else None
        if is_face_detector:
            given = ask_for_missing_of_detector(model, command_line(), scheme=wanted, out=out, data=data)
            stage = _detector_stage(
                model, detector, data, calibrate, split, unsafe=unsafe, one_dense_scale=one_dense_scale
            )
            result = run(stage, *given)
        else:
            names = parse_labels(labels) if labels else ()
            statement = Statement(names, read_pixel_options(input_range, input_mean, input_std), unchecked)
            options = ReadOptions(size, output, len(names), _text(architecture), _text(custom), unsafe, command_line())
            faces = _Faces(data, calibrate, votes, label_map, usage)
            given = ask_for_missing(model, statement, options, scheme=wanted, out=out, data=data)
            stage = _classifier_stage(model, statement, options, faces, one_dense_scale=one_dense_scale)
            result = run(stage, *given)
    for warning in result.warnings:
        warn(warning)
    _, written = given
    _print_result(result, model, written)
    _compile(target, stage, result.kind, model, architecture, written)


@contextmanager
def _warn_of_refused() -> Iterator[None]:
    """Print the warnings about a conversion that is refused, before the reason."""
    from fer_edge_convert.result import RefusedError

    try:
        yield
    except RefusedError as error:
        for warning in error.warnings:
            warn(warning)
        raise


def _need_packages(model: Path) -> None:
    """Refuse to continue without the packages that read a model."""
    need("convert", "ai_edge_quantizer")
    if model.suffix != ".tflite":
        need("convert", "keras", "tensorflow", "tf_keras")
    if model.suffix == ".onnx":
        need("onnx", "onnx", "onnxruntime")
    if model.suffix == ".pt2":
        need("torch", "torch", "onnx", "onnxruntime", "onnxscript")


def _check_target(
    target: str | None, model: Path, data: Path | None, *, is_detector: bool, is_second_stage: bool
) -> None:
    if not target:
        return
    from fer_edge_convert.targets import Target, check_source

    chosen = Target(target)
    check_source(chosen, model, is_detector=is_detector, is_second_stage=is_second_stage)
    if chosen.takes_calibration and not data:
        raise InputError(f"--for {target} writes images for {chosen.compiler} to measure ranges on: give --data, too")


def _has_one_dense_scale(target: str | None) -> bool:
    from fer_edge_convert.targets import Target

    return target is not None and Target(target).one_dense_scale


def _compile(
    target: str | None,
    stage: ClassifierStage | DetectorStage,
    kind: str,
    model: Path,
    architecture: Path | None,
    out: Path,
) -> None:
    """Write what the compiler of a target takes, and compile it, or say how to."""
    from fer_edge_convert.targets import Target

    if not target or not Target(target).compiler:
        return
    from fer_edge_convert.compilers import compile_files
    from fer_edge_convert.targets import TargetFiles, left_to_cpu, write_files

    files = TargetFiles(Target(target), out, model)
    if files.target is Target.IMX500:
        from fer_edge_convert.formats.keras_files import find_parts

        files = TargetFiles(Target(target), out, *find_parts(model, architecture))
    if files.target is Target.IMX500 and kind.startswith("Keras 3"):
        warn(f"{model}: of {kind}; the TensorFlow of Sony's MCT has Keras 2, which may not read it")
    for path in write_files(files, stage.calibration_images()):
        say(f"written     {path}")
    if files.target is Target.EDGETPU and (kinds := left_to_cpu(out.read_bytes(), out)):
        say(f"on the CPU  {', '.join(kinds)}, which the Edge TPU does not run, and all that comes after")
    if compiled := compile_files(files):
        say(f"compiled    {compiled}, by {files.target.compiler}; not tried on hardware")
        return
    say(f"not compiled: no {files.target.compiler} on PATH. Where it is installed, run:", *files.hints())


def _check_detector_options(
    model: Path, scheme: str | None, detector: Path | None, classifiers: Mapping[str, object]
) -> None:
    from fer_edge.modelcard.reader import is_model_of
    from fer_edge.modelcard.schema import RefinerCard

    _refuse(classifiers, "is for classifiers; leave it out", f"{model}: a face detector, and ")
    if scheme == "int16x8":
        raise InputError(f"{model}: a face detector, which LiteRT cannot run with --int16x8; use --int8 or --float16")
    if is_model_of(model, RefinerCard) and not detector:
        raise InputError(f"{model}: a detector's second stage; give the .tflite of the first one: --detector FILE")


def _print_result(result: Conversion, model: Path, out: Path) -> None:
    from fer_edge_convert.detector_report import detector_summary
    from fer_edge_convert.report import classifier_summary
    from fer_edge_convert.result import ClassifierConversion, DetectorConversion

    say(f"{out}: {result.scheme}, made of {model} ({result.kind})")
    if isinstance(result, DetectorConversion):
        say(*detector_summary(result))
    if isinstance(result, ClassifierConversion):
        say(*classifier_summary(result))
        if result.scheme.calibrated and result.float_operators:
            reason = "which --rescue left" if result.kept_in_floats else "which --allow-float allowed"
            say(f"in floats   {', '.join(result.float_operators)}, {reason}")


def _choose_scheme(chosen: dict[str, bool], scheme: str | None, target: str | None) -> str | None:
    """Return the chosen scheme, or that of the target; None without either."""
    wanted = {name for name, is_chosen in chosen.items() if is_chosen} | ({scheme} if scheme else set())
    if target:
        from fer_edge_convert.targets import Target

        schemes = Target(target).schemes
        if other := wanted.difference(schemes):
            raise InputError(f"--for {target} needs {schemes[0]}; leave --{min(other)} out")
        wanted = wanted or {schemes[0]}
    if len(wanted) > 1:
        raise InputError("choose one way to quantize: --int8, --int16x8, --dynamic, --float16 or --float32")
    return wanted.pop() if wanted else None


def _refuse_unused(
    scheme: str | None, data: Path | None, comparing: Mapping[str, object], measuring: Mapping[str, object]
) -> None:
    if scheme in {None, "int8", "int16x8"}:  # without data, these ask for it
        return
    if not data:
        _refuse(comparing, "is for comparing both models on faces; give --data, too")
    _refuse(measuring, f"does nothing for {scheme}, which measures no ranges; leave it out")


def _refuse(options: Mapping[str, object], reason: str, prefix: str = "") -> None:
    """Refuse options that would do nothing."""
    for name, value in options.items():
        if value:
            raise InputError(f"{prefix}--{name} {reason}")


def _detector_stage(
    model: Path,
    detector: Path | None,
    data: Path | None,
    calibrate: Path | None,
    split: Path | None,
    *,
    unsafe: bool,
    one_dense_scale: bool,
) -> DetectorStage:
    from fer_edge.datasets.faces import load_faces, without_test_images
    from fer_edge_convert.first_stage import FirstStage
    from fer_edge_convert.second_stage import SecondStage
    from fer_edge_convert.sources import RefinerSource, open_detector, open_refiner

    source = open_refiner(model, detector, unsafe=unsafe) if detector else open_detector(model, unsafe=unsafe)
    ranges = calibrate or data
    test = load_faces(data, "val") if data else None
    calibration = load_faces(ranges, "train") if ranges else None
    if split and test is not None and calibration is not None:
        test, calibration = without_test_images([test, calibration], split)
    if isinstance(source, RefinerSource):
        return SecondStage(source, test=test, calibration=calibration, one_dense_scale=one_dense_scale)
    return FirstStage(source, test=test, calibration=calibration, one_dense_scale=one_dense_scale)


@dataclass(frozen=True, slots=True)
class _Faces:
    """Options that say which faces a classifier is calibrated and tested on."""

    data: Path | None
    calibrate: Path | None
    votes: Path | None
    label_map: Path | None
    usage: str | None


def _classifier_stage(
    model: Path, statement: Statement, options: ReadOptions, faces: _Faces, *, one_dense_scale: bool
) -> ClassifierStage:
    from fer_edge_convert.classifier_stage import ClassifierStage
    from fer_edge_convert.description import describe
    from fer_edge_convert.original import compare_with_original
    from fer_edge_convert.sources import open_model

    source = open_model(model, options)
    data = _load_faces(faces.data, faces.votes, faces.label_map, source)
    calibration = _load_faces(faces.calibrate, None, None, source)
    prepared, card, lines = describe(source, statement, data, faces.usage)
    say(*lines, error=True)
    if model.suffix in _WITH_ORIGINAL and data:
        say(compare_with_original(source, options, card, data), error=True)
    return ClassifierStage(
        prepared,
        card,
        data=data,
        calibration=calibration,
        usage=faces.usage,
        one_dense_scale=one_dense_scale,
    )


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _load_faces(path: Path | None, votes: Path | None, label_map: Path | None, source: SourceModel) -> Dataset | None:
    if not path:
        return None
    check_square(source.path, source.height, source.width, "convert it without --data and --calibrate")
    return load_fused_dataset([path], votes, label_map, source.height, majority=votes is not None)
