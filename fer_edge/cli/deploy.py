"""`fer-edge deploy`: install the service or a model on other machines over ssh."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.completion import complete_classifier
from fer_edge.cli.options import CLASSIFIER_HELP
from fer_edge.cli.output import say
from fer_edge.errors import InputError

if TYPE_CHECKING:
    from fer_edge_device.install.deploy import Outcome

app = typer.Typer()


@app.command()
def deploy(
    hosts: Annotated[list[str], typer.Argument(help="user@host, or names of your ssh configuration.")],
    model: Annotated[
        Path | None,
        typer.Option(help=CLASSIFIER_HELP, autocompletion=complete_classifier),
    ] = None,
    model_back: Annotated[
        bool,
        typer.Option("--model-back", help="Give every camera the model that it had before the last change."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Configuration; its password_file, if it is a file here, becomes the service's password there."
        ),
    ] = None,
    wheel: Annotated[
        Path | None, typer.Option(help="Wheel of fer-edge; by default built from the clone that runs this command.")
    ] = None,
    waves: Annotated[
        str | None,
        typer.Option(
            metavar="SIZES",
            help="Hosts of each wave: 1,5 means one, then five, then five more. No wave begins after a failure.",
        ),
    ] = None,
    ssh_config: Annotated[Path | None, typer.Option(help="ssh configuration, instead of your own.")] = None,
) -> None:
    """Install or upgrade the service on Pis, over ssh, or give them another model.

    Each host gets the program, and the model and configuration if they are given, and is measured. A host on which
    the service does not start gets back what it had. Needs an ssh key, and sudo without a password. On a host where
    each camera has a unit of its own, only the program is installed.

    With --model and neither --config nor --wheel, the program stays, and all cameras of a host take the model without
    a restart. The host keeps the model before it, to which --model-back returns.

    \b
    Example: fer-edge deploy pi@kitchen pi@hall --model edge.tflite --config config.toml
    Example: fer-edge deploy pi@kitchen pi@hall --model mine.tflite --waves 1
    Example: fer-edge deploy pi@kitchen pi@hall --model-back
    """
    from fer_edge_device.install.bundle import build_wheel, make_bundle
    from fer_edge_device.install.deploy import deploy as deploy_to

    if model_back and (model or config or wheel):
        raise InputError("--model-back cannot be combined with --model, --config or --wheel")
    for path in (config, wheel, ssh_config):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no such file")
    sizes = _parse_waves(waves)
    only_model = model_back or (model is not None and config is None and wheel is None)
    with tempfile.TemporaryDirectory() as folder:
        program = None if only_model else wheel or build_wheel(Path(folder))
        bundle = make_bundle(program, model=model, config=config, model_back=model_back)
        outcomes = deploy_to(
            hosts,
            bundle,
            on_progress=lambda host, step: say(f"{host}: {step}", error=True),
            waves=sizes,
            ssh_config=ssh_config,
        )
    _print_outcomes(outcomes)
    if any(outcome.failed_step for outcome in outcomes):
        raise typer.Exit(1)


def _parse_waves(text: str | None) -> tuple[int, ...]:
    """Return the sizes of waves; none means one wave of all hosts."""
    if text is None:
        return ()
    if not re.fullmatch(r"[1-9]\d{0,5}(,[1-9]\d{0,5})*", text):
        raise InputError(f"--waves {text}: give the hosts of each wave as numbers, such as 1,5")
    return tuple(map(int, text.split(",")))


def _print_outcomes(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.failed_step:
            say(f"{outcome.host}: failed to {outcome.failed_step}; its last lines:")
            say(*(f"  {line}" for line in outcome.output))
        if outcome.benchmark:
            say(f"{outcome.host}: {outcome.benchmark.machine}, {outcome.benchmark.runtime}, {outcome.benchmark.model}")
            for name in ("classifier", "detect", "whole_frame"):
                row = getattr(outcome.benchmark, name)
                say(f"  {name.replace('_', ' '):<12}median {row.median:.3f} ms, p95 {row.p95:.3f} ms")
    wide = max(4, *(len(outcome.host) for outcome in outcomes)) + 2
    models = [", ".join(outcome.models) or "-" for outcome in outcomes]
    model_wide = max(5, *map(len, models)) + 2
    say(f"{'host':<{wide}}{'version':<12}{'model':<{model_wide}}{'classifier':>12}{'frame':>12}  outcome")
    for outcome, model in zip(outcomes, models, strict=True):
        measured = outcome.benchmark
        figures = (measured.classifier.median, measured.whole_frame.median) if measured else ()
        cells = "".join(f"{f'{value:.2f} ms':>12}" for value in figures) or f"{'-':>12}{'-':>12}"
        status = (
            f"failed to {outcome.failed_step}" if outcome.failed_step else "not begun" if outcome.waits else "ready"
        )
        say(f"{outcome.host:<{wide}}{outcome.version or '-':<12}{model:<{model_wide}}{cells}  {status}")
