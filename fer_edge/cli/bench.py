"""`fer-edge bench`: measure latency."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.options import AsJson, Detector, DetectorModel, MinFace
from fer_edge.cli.output import print_json, say
from fer_edge.errors import InputError
from fer_edge.utils.duration import parse_duration

app = typer.Typer()

_XNNPACK: Final = {"on": (True,), "off": (False,), "both": (True, False)}
_INSTEAD: Final = {  # options by which nothing is measured here, and what they do
    "--schema": "prints and measures nothing",
    "--compare": "measures nothing and writes no file",
    "--peer": "measures in a way of its own and writes no file",
}
_FOR: Final = {"--tolerance": "--compare", "--anyway": "--compare", "--venvs": "--peer"}


@app.command()
def bench(
    context: typer.Context,
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Files of .tflite with a card, or the shipped edge (the default), edge-plus or large.",
            autocompletion=complete_classifier,
        ),
    ] = None,
    threads: Annotated[str, typer.Option(help="Threads of the classifier, one number or several: 1,2,4.")] = "1",
    xnnpack: Annotated[Literal["on", "off", "both"], typer.Option(help="The runtime's XNNPACK delegate.")] = "on",
    batch: Annotated[str, typer.Option(help="Faces in one invocation, one number or several: 1,8.")] = "1",
    runs: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Runs of each case; by default 200.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.01, max=86_400, help="Time for each case, instead of --runs.")
    ] = None,
    starts: Annotated[
        int, typer.Option(min=0, max=100, help="Fresh processes in which to measure load time, first run and memory.")
    ] = 3,
    sustained: Annotated[str | None, typer.Option(help="Then process whole frames for this long, such as 10m.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the time of each operator.")] = False,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Also write the JSON to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with plots.")] = None,
    pareto: Annotated[Path | None, typer.Option(help="Plot accuracy by latency: an .svg or .html.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="BEFORE AFTER", help="Compare two results and show what changed beyond the noise; measures nothing."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0, max=1000, help="Allowed growth of a median, in per cent; beyond it, the exit status is 1."),
    ] = 5,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Compare even results of different machines or runtimes.")
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a result.")] = False,
    peer: Annotated[
        bool, typer.Option("--peer", help="Also measure other tools; needs a clone of the repository.")
    ] = False,
    venvs: Annotated[Path | None, typer.Option(help="Folder in which --peer installs them.")] = None,
    detector: Detector = "network",
    detector_model: DetectorModel = None,
    min_face: MinFace = None,
) -> None:
    """Measure latency on this machine.

    Measures the classifier, the detector and a whole frame, and what a process needs once at its start.

    \b
    Example: fer-edge bench edge edge-plus --threads 1,2 --html bench.html
    Example: fer-edge bench --compare old.json new.json --tolerance 10
    """
    _refuse_unused(context)
    if schema:
        from fer_edge.bench.results import json_schema

        print_json(json_schema())
        return
    if compare:
        _compare(*compare, tolerance=tolerance / 100, anyway=anyway, as_json=as_json)
        return
    if peer:
        raise typer.Exit(_peers(venvs))
    if runs and seconds:
        raise InputError("--seconds is instead of a number of runs: leave out --runs")
    from fer_edge.bench.measure import benchmark
    from fer_edge.bench.options import BenchOptions
    from fer_edge.bench.page import as_html
    from fer_edge.bench.pareto import pareto_page
    from fer_edge.bench.results import encode_report
    from fer_edge.bench.text import as_text
    from fer_edge.model_zoo import find_model

    options = BenchOptions(
        models=tuple(find_model(model) for model in models or [Path("edge")]),
        threads=_numbers("--threads", threads, 64),
        xnnpack=_XNNPACK[xnnpack],
        batches=_numbers("--batch", batch, 1024),
        detector=detector,
        detector_model=detector_model,
        min_face=min_face,
        runs=runs or 200,
        seconds=seconds,
        starts=starts,
        sustained=None if sustained is None else parse_duration(sustained, "--sustained", min_s=1, max_s=7 * 86_400),
        profile=profile,
    )
    _ensure_writable(out, html, pareto)
    report = benchmark(options, _print_progress)
    if out:
        _write(out, encode_report(report).decode())
    if html:
        _write(html, as_html(report))
    print_json(report, indent=None) if as_json else print(as_text(report))
    if pareto:  # last, for a model need not have what it takes
        _write(pareto, pareto_page(report, svg=pareto.suffix.lower() == ".svg"))


def _refuse_unused(context: typer.Context) -> None:
    """Raise InputError where something was given that would do nothing."""
    sources = {one.opts[0]: context.get_parameter_source(one.name or "") for one in context.command.params}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    for name, other in _FOR.items():
        if name in given and other not in given:
            raise InputError(f"{name} is for {other}; give that, too")
    for instead, reason in _INSTEAD.items():
        beside = {instead, *(name for name, other in _FOR.items() if other == instead)}
        beside |= {"--json"} if instead == "--compare" else set()
        if instead in given and (unused := [name for name in given if name not in beside]):
            raise InputError(f"{instead} {reason}: leave out {', '.join(unused)}")


def _ensure_writable(out: Path | None, html: Path | None, pareto: Path | None) -> None:
    from fer_edge.utils.atomic_file import check_suffix, ensure_writable

    for option, path, endings in (
        ("--out", out, (".json",)),
        ("--html", html, (".html",)),
        ("--pareto", pareto, (".svg", ".html")),
    ):
        if path:
            check_suffix(path, option, *endings)
    written = [path for path in (out, html, pareto) if path]
    if len({path.resolve() for path in written}) < len(written):
        raise InputError("--out, --html and --pareto write a file each: give them different names")
    for path in written:
        ensure_writable(path)


def _print_progress(description: str) -> None:
    if sys.stderr.isatty():
        print(f"measuring {description} ...", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    from fer_edge.utils.atomic_file import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _numbers(option: str, text: str, max_number: int) -> tuple[int, ...]:
    """Parse numbers from 1 to ``max_number``; keep their order and drop repeats."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= max_number for part in parts):
        raise InputError(f"{option} {text}: give numbers from 1 to {max_number} with commas between, as 1,2,4")
    return tuple(dict.fromkeys(map(int, parts)))


def _compare(old: Path, new: Path, *, tolerance: float, anyway: bool, as_json: bool) -> None:
    from fer_edge.bench.compare import as_text, compare_reports
    from fer_edge.bench.results import read_report

    found = compare_reports(read_report(old), read_report(new), tolerance=tolerance, anyway=anyway)
    if as_json:
        print_json(found)
    else:
        say(*as_text(found).splitlines())
    if found.regressions:
        raise typer.Exit(1)


def _peers(venvs: Path | None) -> int:
    import subprocess

    import fer_edge

    script = Path(fer_edge.__file__).parents[1] / "benchmarks" / "peers" / "run.py"
    if not script.is_file():
        raise InputError("--peer takes a clone of fer-edge: its benchmarks/peers is not in the package")
    words = [sys.executable, str(script), *(["--venvs", str(venvs)] if venvs else [])]
    return subprocess.run(words, check=False).returncode  # noqa: S603 - our own script
