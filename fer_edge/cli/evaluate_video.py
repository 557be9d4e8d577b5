"""`fer-edge evaluate-video`: measure how steady the emotions of a video are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.options import AsJson
from fer_edge.cli.output import fields, print_json, say
from fer_edge.cli.waiting import show_work
from fer_edge.errors import InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fer_edge.tagging.steadiness import ReviewedSpan, Steadiness

app = typer.Typer()


@app.command()
def evaluate_video(
    sources: Annotated[list[Path], typer.Argument(help="A video, or tables that `fer-edge tag` made of one.")],
    model: Annotated[
        list[Path] | None,
        typer.Option(
            help="Classify a video with this .tflite, or the shipped edge (the default), edge-plus or large; may be"
            " repeated.",
            autocompletion=complete_classifier,
        ),
    ] = None,
    timeline: Annotated[
        Path | None, typer.Option(help="CSV with start, end (in seconds), emotion and, optionally, person (a track).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Count how often the label of a face flips in a minute, and compare it with a reviewed timeline.

    \b
    Example: fer-edge evaluate-video clip.mp4 --model edge --model own.tflite --timeline reviewed.csv
    Example: fer-edge evaluate-video faces.csv --timeline reviewed.csv
    """
    from fer_edge.tagging.steadiness import read_timeline

    spans = read_timeline(timeline) if timeline else None
    measured = [one for source in sources for one in _measure(source, model, spans)]
    if as_json:
        print_json([{"source": str(source), **fields(one)} for source, one in measured])
        return
    for source, one in measured:
        say(*_lines(source, one))


def _measure(
    source: Path, models: list[Path] | None, spans: Sequence[ReviewedSpan] | None
) -> Iterator[tuple[Path, Steadiness]]:
    """Measure a table, or a video with each model."""
    import tempfile

    from fer_edge.errors import DataError
    from fer_edge.tagging.output.table_reader import read_table
    from fer_edge.tagging.steadiness import measure_steadiness
    from fer_edge.utils.file_kinds import VIDEO_SUFFIXES

    is_video = source.suffix.lower() in VIDEO_SUFFIXES
    if models and not is_video:
        raise InputError(f"{source}: --model classifies a video, and this is none; leave --model out for a table")
    with tempfile.TemporaryDirectory() as folder:
        tables = [source]
        if is_video:
            tables = [
                _tag(source, one, Path(folder, f"{number}.jsonl"))
                for number, one in enumerate(models or [Path("edge")])
            ]
        for table in tables:
            try:
                yield source, measure_steadiness(read_table(table), spans)
            except DataError as error:
                raise DataError(f"{source}: {error}") from error


def _tag(video: Path, model: Path, table: Path) -> Path:
    """Classify the faces of a video into a table."""
    from fer_edge.model_zoo import find_model
    from fer_edge.tagging.options import TagOptions
    from fer_edge.tagging.output.destinations import Outputs
    from fer_edge.tagging.run import tag
    from fer_edge.utils.native_stderr import hide_native_stderr

    with hide_native_stderr(), show_work(f"classifying {video} with {model}"):
        tag([str(video)], Outputs(str(table)), TagOptions(model=str(find_model(model))))
    return table


def _lines(source: Path, one: Steadiness) -> Iterator[str]:
    rate = "too short for a rate" if one.flips_a_minute is None else f"{one.flips_a_minute:.1f} a minute"
    yield (
        f"{source}, {one.model}: {counted(one.flips, 'flip')} of the label in {one.minutes:.1f} minutes of"
        f" {counted(one.tracks, 'face')}, {rate}"
    )
    if one.unclear:
        yield f"  left out: {counted(one.unclear, 'unclear face')}"
    if one.reviewed is not None:
        if one.agreement is None:
            yield "  agreement: no face at a time that the timeline has a label for"
        else:
            kappa = "" if one.kappa is None else f", Cohen's kappa {one.kappa:.2f}"
            yield f"  agreement with the timeline: {one.agreement:.1%} of {counted(one.reviewed, 'face')}{kappa}"
