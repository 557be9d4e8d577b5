"""`fer-edge review`: label faces on a page, and make a dataset of what reviewers decided."""

from __future__ import annotations

import getpass
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.loading import load_classifier
from fer_edge.cli.needs import need
from fer_edge.cli.output import open_in_browser, say, warn
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge.review.export import Export
    from fer_edge.review.face_folder import FaceFolder

app = typer.Typer()
_SHOWN_FAULTS: Final = 10


@app.command()
def review(
    folder: Annotated[Path, typer.Argument(help="Folder of cut-out faces, with or without faces.csv.")],
    reviewer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who labels; by default the name of this user.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A .tflite with a card, or a shipped model, that predicts all faces anew. By default, faces.csv says"
            " what was predicted, and edge predicts the faces that are not in it.",
            autocompletion=complete_classifier,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 8001,
    export: Annotated[
        Path | None,
        typer.Option(metavar="DATASET", help="Serve no page, but write the decisions of all reviewers as a dataset."),
    ] = None,
    test_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="With --export: share of new faces that go to test/.")
    ] = 0.2,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="With --export: leave out faces of earlier versions whose images are gone."),
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser, if there is a screen.")
    ] = True,
) -> None:
    """Label faces by the keyboard on a page, also with several reviewers, and export them as a dataset.

    Only this machine can open the page. Each reviewer has a log in FOLDER/reviews; copy the logs of others into that
    folder to see where you differ. The dataset is a folder for `fer-edge train` and `fer-edge evaluate`.

    \b
    Example: fer-edge review faces --reviewer ann
    Example: fer-edge review faces --export own
    """
    if export:
        _export(folder, export, test_share, prune=prune)
        return
    from fer_edge.datasets.near_duplicates import near_duplicates
    from fer_edge.review.choices import NO_EMOTION
    from fer_edge.review.decisions import DecisionLog, check_reviewer
    from fer_edge.review.face_folder import REVIEWS
    from fer_edge.review.session import ReviewSession
    from fer_edge.utils.signals import catch_end
    from fer_edge_device.web.start import serve_review_page

    need("web", "starlette", "uvicorn")
    name = check_reviewer(reviewer or _user_name())
    faces = _read(folder, model)
    if not faces.emotions:
        raise InputError(f"{folder}: no emotions to choose from, but {' and '.join(NO_EMOTION)}; give another --model")
    with show_work("looking for near-duplicates"):
        groups = near_duplicates(faces.thumbnails)
    with ExitStack() as stack:
        log = stack.enter_context(DecisionLog(folder / REVIEWS, name))
        if log.decisions.faults:
            warn(f"{folder / REVIEWS}: {counted(log.decisions.faults, 'line')} of {name} damaged, and not used")
        session = ReviewSession(faces, groups, log)
        wait = stack.enter_context(catch_end())  # first, so that a second Ctrl+C does not interrupt the end
        page = stack.enter_context(closing(serve_review_page(session, port)))
        say(f"{folder}: {counted(len(faces.faces), 'face')}, reviewed by {name}", error=True)
        say(f"the page is at {page}; Ctrl+C ends it", error=True)
        if open_browser:
            open_in_browser(page.url)
        wait()


def _export(folder: Path, target: Path, test_share: float, *, prune: bool) -> None:
    from fer_edge.review.export import export_dataset

    faces = _read(folder, None, predict=False)
    with show_work("exporting"):
        done = export_dataset(faces, target, test_share=test_share, prune=prune)
    for line in done.faults:
        warn(line)
    say(*_describe(done, target))


def _describe(done: Export, target: Path) -> list[str]:
    from collections import Counter

    manifest = done.manifest
    sides = Counter(face.split for face in manifest.faces)
    what = f"version {manifest.version}" if done.is_new else f"version {manifest.version}, nothing has changed"
    lines = [f"{target}: {what}: {sides['train']} faces in train, {sides['test']} in test"]
    for reason, count in Counter(face.reason for face in manifest.left_out).most_common():
        lines.append(f"left out: {counted(count, 'face')}: {reason}")
    lines += [f"not reviewed: {counted(done.unreviewed, 'face')}"] if done.unreviewed else []
    lines += [f"kept from earlier versions: {counted(done.kept, 'face')}, not in the folder"] if done.kept else []
    if not sides["test"]:
        lines.append("test is empty: nothing can be tested on faces that the model has not learned from")
    return lines


def _read(folder: Path, model: Path | None, *, predict: bool = True) -> FaceFolder:
    """Read a folder, and say what cannot be used."""
    from fer_edge.review.face_folder import read_face_folder
    from fer_edge.utils.native_stderr import hide_native_stderr

    make_classifier = (lambda: load_classifier(model)) if predict else None
    with hide_native_stderr(), show_work(f"reading {folder}") as work:
        faces = read_face_folder(folder, make_classifier, predict_all=model is not None, on_progress=work.count)
    for line in faces.skipped[:_SHOWN_FAULTS]:
        warn(f"skipped {line}")
    if len(faces.skipped) > _SHOWN_FAULTS:
        warn(f"skipped {len(faces.skipped) - _SHOWN_FAULTS} more")
    say(*(f"left out: {line}" for line in faces.left_out), error=True)
    return faces


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in containers
        raise InputError("this user has no name; give --reviewer NAME") from None
