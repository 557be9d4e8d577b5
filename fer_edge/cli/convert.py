"""`fer-edge convert`: make a .tflite of a model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_edge.cli.loading import check_square, load_fused_dataset
from fer_edge.cli.needs import need
from fer_edge.cli.options import InputRange, LabelMap, Labels, Usage, Votes
from fer_edge.cli.output import command_line, warn
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fer_edge.datasets.dataset import Dataset
    from fer_edge.modelcard.schema import ClassifierCard
    from fer_edge_convert.sources import Source

app = typer.Typer()


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
    dynamic: Annotated[bool, typer.Option("--dynamic", help="Weights in int8, activations in float32.")] = False,
    float16: Annotated[bool, typer.Option("--float16", help="Weights in float16.")] = False,
    float32: Annotated[bool, typer.Option("--float32", help="Not quantised.")] = False,
    quantize: Annotated[
        Literal["int8", "int16x8", "dynamic", "float16", "float32"] | None, typer.Option(help="The scheme by name.")
    ] = None,
    labels: Labels = None,
    input_range: InputRange = None,
    size: Annotated[
        int | None,
        typer.Option(min=16, max=1024, help="Side of the images in pixels, for a model that takes any size."),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Faces to measure ranges on, instead of those of --data.")
    ] = None,
    max_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Refuse a model that loses more points than this.")
    ] = 1.0,
    rescue: Annotated[bool, typer.Option("--rescue", help="Try other ways of quantising before refusing.")] = False,
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
    scheme = _one_of(chosen, quantize)
    need("convert", "ai_edge_quantizer")
    if model.suffix != ".tflite":
        need("convert", "keras", "tensorflow", "tf_keras")
    from fer_edge.classification.labels import parse_labels
    from fer_edge.datasets.readers import ensure_exists
    from fer_edge.modelcard.reader import is_model_of
    from fer_edge.modelcard.schema import DetectorCard, RefinerCard
    from fer_edge.utils.native_stderr import hide_native_stderr

    comparing = {"report": report, "usage": usage, "votes": votes, "map": label_map}
    _refuse_idle(scheme, data, comparing, {"calibrate": calibrate, "rescue": rescue})
    if not is_model_of(model, RefinerCard):
        _refuse({"detector": detector}, "is for a detector's second stage; leave it out", f"{model}: none, and ")
    if is_model_of(model, DetectorCard) or is_model_of(model, RefinerCard):
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
        ensure_exists(path)
    with hide_native_stderr():
        from fer_edge_convert.conversion import convert as run_conversion
        from fer_edge_convert.quantisation import Scheme
        from fer_edge_convert.report import summary
        from fer_edge_convert.result import RefusedError
        from fer_edge_convert.sources import open_source

        source = open_source(model, size=size, unsafe=unsafe)
        names = parse_labels(labels) if labels else ()
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
                warn(warning)
            raise
    for warning in done.warnings:
        warn(warning)
    print(f"{out}: {done.scheme}, made of {model} ({done.kind})")
    for line in summary(done):
        print(line)
    if done.scheme.calibrated and done.float_operators:
        why = "which --rescue left" if done.kept_in_floats else "of which the quantiser has no integer form"
        print(f"in floats   {', '.join(done.float_operators)}, {why}")


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
    from fer_edge.modelcard.reader import is_model_of
    from fer_edge.modelcard.schema import RefinerCard
    from fer_edge.utils.native_stderr import hide_native_stderr

    if is_model_of(model, RefinerCard) and not detector:
        raise InputError(f"{model}: a detector's second stage; give the .tflite of the first one: --detector FILE")
    with hide_native_stderr():
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
    check_square(source.path, source.height, source.width, "convert it without --data and --calibrate")
    return load_fused_dataset([path], votes, label_map, source.height, majority=votes is not None)


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
