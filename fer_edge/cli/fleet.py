"""`fer-edge fleet`: how the nodes at a broker are."""

from __future__ import annotations

import sys
import time as clock
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fer_edge.cli.options import AsJson, Broker, ConfigFile
from fer_edge.cli.output import print_json, say, warn
from fer_edge.errors import BrokerError, InputError
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fer_edge_device.config.settings import MqttSettings
    from fer_edge_device.mqtt.fleet import Fleet, NodeReport

app = typer.Typer()

_REDRAW_S: Final = 1.0  # the table is not drawn more often
_AGES_S: Final = 30.0  # nor less often, because it says how long ago a node was seen
_RETRY_S: Final = 5.0  # before the next attempt to reach a broker that was lost
_RECENT_S: Final = 30.0  # stats come every ten seconds, if the configuration does not say otherwise
_CLEAR: Final = "\x1b[H\x1b[2J\x1b[3J"
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@app.command()
def fleet(
    config: ConfigFile = None,
    broker: Broker = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and show what changes.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the nodes at a broker: state, version, model, temperature, waiting events.

    Reads what the nodes publish and changes nothing. With --watch and --json, every change of a node is a line.

    \b
    Example: fer-edge fleet --mqtt mqtt://broker --watch
    """
    from fer_edge_device.config.load import load_config

    settings = load_config(config, options={"mqtt.url": broker}).mqtt
    if not settings.url:
        raise InputError("no broker is given: --mqtt mqtt://HOST, or mqtt.url in the configuration")
    if not watch:
        from fer_edge_device.mqtt.fleet import Fleet

        with Fleet(settings) as nodes:
            nodes.load()
            reports = nodes.reports()
            _warn_if_incomplete(nodes)
            if not reports:
                raise InputError(
                    f"no node is known at {nodes}: check mqtt.topic_prefix, which is {settings.topic_prefix}, and"
                    f" whether this user may read {settings.topic_prefix}/#"
                )
        if as_json:
            print_json(reports)
        else:
            say(*_table(reports))
    elif as_json:
        _print_changes(settings)
    else:
        for reports in _watch(settings):
            if sys.stdout.isatty():
                print(_CLEAR, end="")
            say(*(_table(reports) if reports else ["no node yet"]), "")
            sys.stdout.flush()


def _print_changes(settings: MqttSettings) -> None:
    """Print each report that differs from the last one of its node."""
    known: dict[str, NodeReport] = {}
    for reports in _watch(settings):
        for report in reports:
            if known.get(report.node) != report:
                print_json(report, indent=None)
        known = {report.node: report for report in reports}
        sys.stdout.flush()


def _watch(settings: MqttSettings) -> Iterator[list[NodeReport]]:
    """Yield the reports again and again; connect again when the connection is lost."""
    from fer_edge_device.mqtt.fleet import Fleet

    is_first = True
    while True:
        try:
            with Fleet(settings) as nodes:
                nodes.load()
                is_first = False
                has_warned = False
                while True:
                    if not (has_warned or nodes.is_complete):
                        has_warned = True
                        _warn_if_incomplete(nodes)
                    yield nodes.reports()
                    drawn = clock.monotonic()
                    nodes.follow(_AGES_S)
                    while (left := drawn + _REDRAW_S - clock.monotonic()) > 0:
                        nodes.follow(left)
        except BrokerError as error:
            if is_first:
                raise
            warn(f"{error}; trying again")
            clock.sleep(_RETRY_S)


def _warn_if_incomplete(nodes: Fleet) -> None:
    from fer_edge_device.mqtt.fleet import MAX_NODES

    if not nodes.is_complete:
        warn(f"there are more than {MAX_NODES:,} nodes, and only the first of them are shown; use mqtt.topic_prefix")


def _table(reports: Sequence[NodeReport]) -> list[str]:
    """Return the lines of a table, and a summary."""
    head = ("node", "state", "version", "model", "fps", "temperature", "waiting", "last seen")
    rows = [
        (
            report.node,
            report.state,
            report.version or "-",
            report.model or "-",
            "-" if report.fps is None else f"{report.fps:.1f}",
            "-" if report.temp_c is None else f"{report.temp_c:.0f} °C{' (throttled)' if report.throttled else ''}",
            "-" if report.queued is None else f"{report.queued}",
            _age(report),
        )
        for report in reports
    ]
    wide = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)).rstrip() for row in (head, *rows)
    ]
    states = [report.state for report in reports]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states, key=_severity)))
    return [*lines, f"{counted(len(reports), 'node')}: {counts}"]


def _severity(state: str) -> tuple[bool, str]:
    return state != "online", state


def _age(report: NodeReport) -> str:
    """Return how long ago a node was seen. Its clock and this one may differ."""
    if report.last_seen is None:
        return "now" if report.state != "offline" else "-"
    age = clock.time() - report.last_seen
    if age < _RECENT_S:
        return "now"
    size, unit = next((size, unit) for size, unit in _UNITS if age >= size)
    return f"{age / size:.0f} {unit} ago"
