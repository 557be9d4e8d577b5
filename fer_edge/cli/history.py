"""`fer-edge history`: read, export and delete what a runner has kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from fer_edge.cli.needs import need
from fer_edge.cli.options import ConfigFile, Node
from fer_edge.cli.output import say
from fer_edge.errors import InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from fer_edge_device.history.rows import Period

app = typer.Typer(name="history")

_HOUR_S: Final = 3600
Since = Annotated[str, typer.Option(help="First moment: a date such as 2026-11-20, or a duration before now: 7d, 12h.")]
Until = Annotated[str | None, typer.Option(help="Last moment, in the same form; by default now.")]
HistoryFile = Annotated[
    Path | None, typer.Option("--file", help="The history, instead of the one that the configuration names.")
]


@app.callback(invoke_without_command=True)
def history(
    context: typer.Context,
    since: Since = "7d",
    until: Until = None,
    by: Annotated[Literal["minute", "hour", "day"], typer.Option(help="Length of a period.")] = "day",
    events: Annotated[bool, typer.Option("--events", help="Write events instead of periods.")] = False,
    out: Annotated[Path | None, typer.Option(help="Table to write: .csv, .jsonl or .parquet.")] = None,
    file: HistoryFile = None,
    config: ConfigFile = None,
    node: Node = None,
) -> None:
    """Show what a runner has kept: time watched, faces and emotions.

    A history is kept where the configuration says history.enabled = true. It holds no images.

    \b
    Example: fer-edge history --since 7d --by hour --out hours.csv
    """
    if context.invoked_subcommand is not None:
        return
    from fer_edge.utils.atomic_file import check_suffix, ensure_writable, replacing
    from fer_edge_device.history.database import read_events, reading
    from fer_edge_device.history.export import SUFFIXES, write_events, write_periods
    from fer_edge_device.history.periods import read_periods

    if events and not out:
        raise InputError("--events: say where to write them, such as --out events.csv")
    if out:
        check_suffix(out, "--out", *SUFFIXES)
        if out.suffix == ".parquet":
            need("parquet", "pyarrow")
        ensure_writable(out)
    begin, end = _times(since, until)
    path, _ = _find(file, config, node)
    if events and out:
        with reading(path) as database:
            found = [*read_events(database, begin, end)]
        with replacing(out) as temporary:
            write_events(temporary, found)
        say(f"{out}: {counted(len(found), 'event')}")
        return
    periods = read_periods(path, begin, end, by)
    if out:
        with replacing(out) as temporary:
            write_periods(temporary, periods)
        say(f"{out}: {counted(len(periods), by)}")
    else:
        _print(periods, by)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="The page to write.")],
    since: Since = "7d",
    until: Until = None,
    file: HistoryFile = None,
    config: ConfigFile = None,
    node: Node = None,
) -> None:
    """Make one HTML page: emotions and faces over time, and a table of days.

    \b
    Example: fer-edge history report --since 30d --out history.html
    """
    from fer_edge.utils.atomic_file import check_suffix, ensure_writable, replacing
    from fer_edge_device.history.periods import read_periods
    from fer_edge_device.history.report import make_history_page

    check_suffix(out, "--out", ".html")
    ensure_writable(out)
    begin, end = _times(since, until)
    path, name = _find(file, config, node)
    page = make_history_page(read_periods(path, begin, end, "minute"), name)
    with replacing(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    say(str(out))


@app.command()
def delete(
    everything: Annotated[bool, typer.Option("--all", help="Delete everything.")] = False,
    before: Annotated[
        str | None, typer.Option(help="Delete what is older: a date such as 2026-11-20, or a duration: 30d.")
    ] = None,
    file: HistoryFile = None,
    config: ConfigFile = None,
    node: Node = None,
) -> None:
    """Delete a history or its old part; a runner may continue meanwhile.

    Deleted data are overwritten in the file. The runner also forgets the current minute.

    \b
    Example: fer-edge history delete --all
    """
    from fer_edge_device.history.database import delete_history
    from fer_edge_device.history.periods import parse_time

    if everything == (before is not None):
        raise InputError("say what to delete: --all, or --before 30d")
    path, _ = _find(file, config, node)
    minutes, events = delete_history(path, math.inf if before is None else parse_time(before, "--before"))
    say(f"{path}: deleted {counted(minutes, 'minute')} and {counted(events, 'event')}")


def _times(since: str, until: str | None) -> tuple[float, float]:
    from fer_edge_device.history.periods import parse_time

    begin, end = parse_time(since, "--since"), parse_time(until, "--until") if until else math.inf
    if begin >= end:
        raise InputError(f"--since {since} is not before --until {until}")
    return begin, end


def _find(file: Path | None, config: Path | None, node: str | None) -> tuple[Path, str]:
    """Return the history and the name to show: of the file, or of the node that the configuration describes."""
    from fer_edge_device.config.load import SYSTEM_CONFIG, load_config
    from fer_edge_device.history.database import find_history

    settings = load_config(config, options={"node": node})
    name = settings.display_name or settings.node_name()
    return file or find_history(settings.history, settings.node_name(), config or SYSTEM_CONFIG), name


def _print(periods: list[Period], by: str) -> None:
    from fer_edge_device.history.export import mean_faces
    from fer_edge_device.history.periods import local_time

    if not periods:
        say("nothing was recorded in this time")
        return
    print(f"{by:<16} {'watched':>8} {'mean faces':>10} {'appeared':>8}  emotions")
    for period in periods:
        start = local_time(period.start)[: 10 if by == "day" else 16].replace("T", " ")
        shares = sorted(period.shares().items(), key=lambda item: -item[1])
        emotions = ", ".join(f"{label} {share:.0%}" for label, share in shares)
        watched = f"{period.observed_s / _HOUR_S:.1f} h"
        say(f"{start:<16} {watched:>8} {mean_faces(period) or 0.0:>10.2f} {period.new_faces:>8}  {emotions}")
