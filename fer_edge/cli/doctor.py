"""`fer-edge doctor`: find out what is wrong on this machine."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from fer_edge.cli.options import AsJson
from fer_edge.cli.output import print_json, say
from fer_edge.utils.words import counted

app = typer.Typer()


@app.command()
def doctor(
    config: Annotated[
        Path | None, typer.Option(help="Configuration to check; by default /etc/fer-edge/config.toml, if it exists.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check this machine, and say what is wrong and what to do.

    Checks packages, camera, model, broker, clock and service. Exit status 1 if something is wrong.

    \b
    Example: fer-edge doctor --config /etc/fer-edge/config.toml
    """
    from fer_edge_device.config.load import load_config
    from fer_edge_device.doctor.checks import CHECKS
    from fer_edge_device.doctor.runner import run_checks

    levels: Counter[str] = Counter()
    findings = []
    for finding in run_checks(load_config(config), CHECKS):
        levels[finding.level] += 1
        if as_json:
            findings.append(dataclasses.asdict(finding))
        else:
            say(f"{finding.level:<9}{finding.name:<13}{'; '.join(filter(None, (finding.message, finding.advice)))}")
    if as_json:
        print_json(findings)
    else:
        counts = (counted(levels[level], level) for level in ("failure", "warning"))
        say(f"{counted(levels.total(), 'check')}: {', '.join(counts)}")
    if levels["failure"]:
        raise typer.Exit(1)
