"""The commands that use a model where there is no camera: inspect, card, predict, tag."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fer_edge.cli.options import (
    AsJson,
    Detector,
    DetectorModel,
    InputRange,
    IsFace,
    Labels,
    MinFace,
    Model,
    Threads,
    load_classifier,
    load_detector,
    print_json,
)
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from fer_edge.modelcard.schema import AnyCard

app = typer.Typer()


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A .tflite file, or edge, edge-plus or faces, which are shipped.")],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Draw the network on a page of its own.")] = None,
) -> None:
    """Show what is inside a .tflite file.

    \b
    Example: fer-edge inspect edge.tflite --html edge.html
    """
    from fer_edge.model_zoo import find_model
    from fer_edge.tflite.inspect import as_html, inspect_model
    from fer_edge.utils.atomic_file import check_ending, replacing

    if html:
        check_ending(html, "--html", ".html")
    found = inspect_model(find_model(model))
    if html:
        with replacing(html) as temporary:
            temporary.write_text(as_html(found), encoding="utf-8")
    if as_json:
        print_json(found)
        return
    print(f"{found.path}  {found.bytes / 1e3:.1f} kB  sha256 {found.sha256}")
    damaged = "" if found.intact else ", which is not what its card says: damaged"
    print(f"{'flatbuffer':<15}sha256 {found.flatbuffer_sha256}{damaged}")
    for name, tensor in (("input", found.input), *(("output", output) for output in found.outputs)):
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
    if second := found.refiner:
        damaged = "" if second.intact else "; not what its card says: damaged"
        print(
            f"{'second stage':<15}{second.input.dtype} {list(second.input.shape)}, {second.bytes / 1e3:.1f} kB,"
            f" {second.multiply_adds / 1e6:.1f} million multiply-adds a face, {second.parameters} parameters, integer"
            f" only: {'yes' if second.integer_only else 'no'}{damaged}"
        )
    if found.card is None:
        print(f"{'card':<15}none: give it one with `fer-edge card set`, or convert it with `fer-edge convert`")
    else:
        _print_card(found.card)


def _print_card(card: AnyCard) -> None:
    from fer_edge.modelcard.schema import ClassifierCard, DetectorCard

    print(f"{'card':<15}{card.name}, schema {card.schema}, {card.task}")
    size = "any size x "
    if isinstance(card, ClassifierCard):
        print(f"{'labels':<15}{', '.join(card.labels)}")
        size = f"{card.input.width}x{card.input.height}x"
    elif isinstance(card, DetectorCard):
        print(f"{'threshold':<15}{card.threshold:g}, for faces from {card.smallest_face:g} pixels of the input on")
    spec = card.input
    print(f"{'image':<15}{size}{spec.channels}, real = pixel * {spec.scale:g} + {spec.offset:g}")
    for name, score in card.scores.items():
        print(f"{'score':<15}{name}: {score:.4f}")
    print(f"{'data':<15}{card.data}")
    for made_by in card.made_by:
        print(f"{'made by':<15}{made_by}")
    print(f"{'note':<15}{card.note}")


cards = typer.Typer()
app.add_typer(cards, name="card")


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
    from fer_edge.classification.card_edit import set_card
    from fer_edge.modelcard.archive import read_labels
    from fer_edge.modelcard.schema import INPUT_RANGES

    names = read_labels(labels) if labels else ()
    card = set_card(model, names, INPUT_RANGES[input_range] if input_range else None)
    spec = card.input
    print(f"{model}: {spec.width}x{spec.height}x{spec.channels}, real = pixel * {spec.scale:g} + {spec.offset:g}")
    print(f"labels {', '.join(card.labels)}")


@app.command()
def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    model: Model = None,
    face: IsFace = False,
    save: Annotated[Path | None, typer.Option(help="Write the annotated image here.")] = None,
    as_json: AsJson = False,
    detector: Detector = "network",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
) -> None:
    """Show the faces of images and how they look.

    \b
    Example: fer-edge predict photo.jpg --save annotated.png
    """
    from fer_edge.drawing import save_annotated
    from fer_edge.errors import DataError
    from fer_edge.recognizer import expressions
    from fer_edge.utils.image_io import read_gray
    from fer_edge.utils.native_stderr import native_stderr_hidden

    if save and len(images) > 1:
        raise InputError("--save takes one image; `fer-edge tag` is for many")
    classifier = load_classifier(model)
    finder = None if face else load_detector(detector, detector_model, min_face)
    failed = False
    for image in images:
        try:
            with native_stderr_hidden():  # what image libraries say of damaged images
                found = expressions(read_gray(image), finder, classifier)
        except DataError as error:
            failed = True
            print(f"fer-edge: {error}", file=sys.stderr)
            continue
        if save:
            save_annotated(image, found, save)
        if as_json:
            print_json({"path": str(image), "faces": found}, indent=None)
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
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Images, videos, archives, folders, 'patterns*', addresses; - for a list on standard input."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            help="Table to write: .jsonl, .csv, .parquet, .sqlite, or folder/ for Parquet parts; a path or an address."
        ),
    ],
    model: Model = None,
    face: IsFace = False,
    detector: Detector = "network",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
    threads: Threads = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Images looked at at once; by default one a core.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Work on a Dask cluster: the scheduler's address, as tcp://host:8786.")
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(help="Look at a video's frames so far apart: 1s, 500ms, 2m; by default at every frame."),
    ] = None,
    max_fetch: Annotated[
        int,
        typer.Option(
            min=1, help="Largest file to fetch from an address, or video to unpack, in MB; of images 537 at most."
        ),
    ] = 4000,
    sha256: Annotated[bool, typer.Option("--sha256", help="Hash each file.")] = False,
    errors: Annotated[Path | None, typer.Option(help="List here, as CSV, what could not be read.")] = None,
    sidecar: Annotated[
        Literal["xmp"] | None, typer.Option(help="Write keywords and face regions into photo.jpg.xmp.")
    ] = None,
    sidecar_dir: Annotated[Path | None, typer.Option(help="Folder for sidecars; by default beside each image.")] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Empty folder for annotated copies of images with faces.")
    ] = None,
    montage: Annotated[Path | None, typer.Option(help="Empty folder for a contact sheet of each emotion.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again; replace the table, copies and sheets.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Tag images and videos in bulk, a row a face.

    An image without a face, or one that cannot be read, is a row too. When it was stopped, the same command goes on.

    \b
    Example: fer-edge tag holiday/ --out tags.jsonl
    """
    from fer_edge.cli.tagging import display, seconds
    from fer_edge.detection.factory import detector_file
    from fer_edge.model_zoo import DEFAULT_MODEL, find_model
    from fer_edge.tagging.input.remote import shown
    from fer_edge.tagging.run import Outputs
    from fer_edge.tagging.run import tag as write_table
    from fer_edge.tagging.worker import Job
    from fer_edge.utils.native_stderr import native_stderr_hidden

    if cluster and workers:
        raise InputError("--workers is for this machine; a cluster has its own")
    if sidecar_dir and not sidecar:
        raise InputError("--sidecar-dir says where sidecars go; give --sidecar xmp too")
    load_detector(detector, detector_model, min_face)  # what is wrong with it is said before work begins
    job = Job(
        model=str(find_model(model) if model else DEFAULT_MODEL),
        threads=threads,
        face=face,
        detector=detector,
        detector_model=str(detector_file(detector, detector_model)),
        min_face=min_face,
        every=seconds(every) if every is not None else None,
        sha256=sha256,
        sidecars=sidecar is not None,
        sidecar_dir=str(sidecar_dir) if sidecar_dir else None,
        annotate=str(annotate) if annotate else None,
        thumbnails=montage is not None,
        max_fetch=max_fetch * 1_000_000,
    )
    with native_stderr_hidden(), display(paths, quiet=quiet) as seen:  # what image libraries say of damaged images
        summary = write_table(
            paths,
            Outputs(out, errors, montage, overwrite),
            job,
            processes=workers or len(os.sched_getaffinity(0)),
            cluster=cluster,
            seen=seen,
        )
    if quiet:
        return
    before = f" ({summary.before} of them in an earlier run)" if summary.before else ""
    print(f"{shown(out)}: {summary.images} images{before}, {summary.faces} faces, {summary.errors} errors")
    if counts := ", ".join(f"{name} {count}" for name, count in summary.emotions.items() if count):
        print(counts)


@app.command()
def report(
    tags: Annotated[list[Path], typer.Argument(help="Tables that `fer-edge tag` wrote.")],
    out: Annotated[Path, typer.Option(help="The page to write.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Open no image: no faces, and no dates of images.")
    ] = False,
) -> None:
    """Make one HTML page of tables of faces: counts, scores, timelines, some faces of each emotion, errors.

    \b
    Example: fer-edge report tags.jsonl --out report.html
    """
    from fer_edge.tagging.output.report import report as make_page
    from fer_edge.utils.atomic_file import check_ending, ensure_writable, replacing
    from fer_edge.utils.native_stderr import native_stderr_hidden

    check_ending(out, "--out", ".html")
    ensure_writable(out)
    with native_stderr_hidden():  # what image libraries say of damaged images
        drawn = make_page(tags, images=not no_images)
    with replacing(out) as temporary:
        temporary.write_text(drawn, encoding="utf-8")
    print(out)
