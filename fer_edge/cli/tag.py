"""`fer-edge tag`: tag many images and videos."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fer_edge.cli.loading import load_detector
from fer_edge.cli.options import Detector, DetectorModel, IsFace, MinFace, MinScore, Model, Threads
from fer_edge.cli.output import say, warn
from fer_edge.errors import InputError, hide_named_passwords
from fer_edge.utils.duration import parse_duration
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fer_edge.tagging.records import SourceResult

_RATE_S: Final = 0.5  # from one calculation of the displayed rate to the next

app = typer.Typer()


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
    min_score: MinScore = None,
    threads: Threads = 1,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Images to process at once; by default one per core.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Work on a Dask cluster: the scheduler's address, as tcp://host:8786.")
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(help="Time between the frames of a video to process: 1s, 500ms, 2m; by default every frame."),
    ] = None,
    max_fetch: Annotated[
        int,
        typer.Option(
            min=1, help="Largest file to fetch from an address, or video to unpack, in MB; of images 268 at most."
        ),
    ] = 4000,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Each name in the list of - ends with a NUL, as of find -print0.")
    ] = False,
    password_file: Annotated[
        Path | None,
        typer.Option(help="File with the password of addresses that name a user, as https://me@host/photos/a.jpg."),
    ] = None,
    sha256: Annotated[bool, typer.Option("--sha256", help="Hash each file.")] = False,
    errors: Annotated[Path | None, typer.Option(help="CSV file that lists what could not be read.")] = None,
    sidecar: Annotated[
        Literal["xmp"] | None, typer.Option(help="Write keywords and face regions into photo.jpg.xmp.")
    ] = None,
    sidecar_dir: Annotated[Path | None, typer.Option(help="Folder for sidecars; by default beside each image.")] = None,
    annotate: Annotated[
        Path | None, typer.Option(help="Empty folder for annotated copies of images with faces.")
    ] = None,
    montage: Annotated[Path | None, typer.Option(help="Empty folder for a contact sheet of each emotion.")] = None,
    collect: Annotated[
        Path | None, typer.Option(help="Empty folder for crops of uncertain, contradictory and rare faces, to review.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start again, and replace the table, copies and sheets.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Tag images and videos: one row per face.

    An image without a face, or one that cannot be read, gets a row too. After an interruption, run the same command
    to continue.

    \b
    Example: fer-edge tag holiday/ --out tags.jsonl
    """
    from fer_edge.detection.factory import detector_file
    from fer_edge.model_zoo import DEFAULT_MODEL, find_model
    from fer_edge.quality import UNCLEAR
    from fer_edge.tagging.input.address_password import use_password_file
    from fer_edge.tagging.input.remote import without_secrets
    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.output.destinations import Outputs
    from fer_edge.tagging.run import tag as write_table
    from fer_edge.utils.native_stderr import hide_native_stderr

    if password_file:
        use_password_file(password_file)
    if any(hide_named_passwords(path) != path for path in (*paths, out)):
        warn(
            "an address holds a password, which every user of this machine can see; name the user alone, and give"
            " --password-file FILE or the variable FER_EDGE_TAG_PASSWORD"
        )
    if cluster and workers:
        raise InputError("--workers is for this machine only; a cluster has its own workers: leave one of them out")
    if sidecar_dir and not sidecar:
        raise InputError("--sidecar-dir is the folder for sidecars; give --sidecar xmp too")
    load_detector(detector, detector_model, min_face, min_score)  # what is wrong with it is said before work begins
    options = TagOptions(
        model=str(find_model(model) if model else DEFAULT_MODEL),
        threads=threads,
        face=face,
        detector=detector,
        detector_model=str(detector_file(detector, detector_model)),
        min_face=min_face,
        min_score=min_score,
        every=None if every is None else parse_duration(every, "--every"),
        sha256=sha256,
        sidecars=sidecar is not None,
        sidecar_dir=str(sidecar_dir) if sidecar_dir else None,
        annotate=str(annotate) if annotate else None,
        thumbnails=montage is not None,
        candidates=collect is not None,
        max_fetch=max_fetch * 1_000_000,
    )
    # The image libraries' own messages on damaged images are hidden.
    with hide_native_stderr(), _display(paths, quiet=quiet) as on_result:
        summary = write_table(
            paths,
            Outputs(out, errors, montage, collect, overwrite),
            options,
            processes=workers or len(os.sched_getaffinity(0)),
            cluster=cluster,
            null=null,
            on_result=on_result,
        )
    if quiet:
        return
    resumed = f" ({summary.resumed} of them in an earlier run)" if summary.resumed else ""
    images, faces = counted(summary.images, "image"), counted(summary.faces, "face")
    say(f"{without_secrets(out)}: {images}{resumed}, {faces}, {counted(summary.errors, 'error')}")
    if counts := ", ".join(
        f"{name} {count}" for name, count in (summary.emotions | {UNCLEAR: summary.unclear}).items() if count
    ):
        say(counts)
    if summary.selected is not None:
        say(f"{collect}: {counted(summary.selected, 'face')} to review")
    if summary.left_out:
        say(f"left out: {'; '.join(summary.left_out)}")


@contextmanager
def _display(inputs: Sequence[str], *, quiet: bool) -> Iterator[Callable[[SourceResult | None], None]]:
    """Show progress if standard error is a terminal; yield the function to call after each image."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from fer_edge.tagging.input.listing import count_images

    console = Console(stderr=True)
    columns = (
        TextColumn("tagging"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} images/s, {task.fields[faces]} faces, {task.fields[errors]} errors"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("tagging", total=None, rate=0.0, faces=0, errors=0)
        if not progress.disable:
            threading.Thread(target=lambda: progress.update(task, total=count_images(inputs)), daemon=True).start()
        faces = errors = 0
        rate = rate_time = 0.0

        def on_result(result: SourceResult | None) -> None:
            nonlocal faces, errors, rate, rate_time
            if progress.disable:
                return
            for record in result.records if result else ():
                faces += record.face is not None
                errors += bool(record.error)
            if (now := time.monotonic()) - rate_time > _RATE_S:  # rich adds up a thousand times for it
                rate, rate_time = progress.tasks[0].speed or 0.0, now
            progress.update(task, advance=1, rate=rate, faces=faces, errors=errors)

        yield on_result
