"""`fer-edge report`: one page of tables of faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.output import say
from fer_edge.cli.waiting import show_work

app = typer.Typer()


@app.command()
def report(
    tags: Annotated[list[Path], typer.Argument(help="Tables that `fer-edge tag` wrote.")],
    out: Annotated[Path, typer.Option(help="The page to write.")],
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Open no image: no faces, and no dates of images.")
    ] = False,
) -> None:
    """Make one HTML page of tagged images: counts, scores, timelines, some faces of each emotion, errors.

    \b
    Example: fer-edge report tags.jsonl --out report.html
    """
    from fer_edge.tagging.output.report import make_report
    from fer_edge.utils.atomic_file import check_suffix, ensure_writable, replacing
    from fer_edge.utils.native_stderr import hide_native_stderr

    check_suffix(out, "--out", ".html")
    ensure_writable(out)
    # The image libraries have messages of their own on damaged images.
    with hide_native_stderr(), show_work(f"making {out}"):
        drawn = make_report(tags, images=not no_images)
    with replacing(out) as temporary:
        temporary.write_text(drawn, encoding="utf-8")
    say(str(out))
