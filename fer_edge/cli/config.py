"""`fer-edge config`: show, check or print an example of the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fer_edge.cli.options import ConfigFile
from fer_edge.cli.output import say, warn
from fer_edge.errors import hide_passwords

if TYPE_CHECKING:
    from pathlib import Path

app = typer.Typer()


@app.command()
def config(
    config_file: ConfigFile = None,
    example: Annotated[bool, typer.Option("--example", help="Print every key with its default, as comments.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the configuration.")] = False,
) -> None:
    """Show the configuration that `run` would use, check it, or print an example.

    \b
    Example: fer-edge config --example > config.toml
    """
    from fer_edge_device.config.load import SYSTEM_CONFIG, load_config
    from fer_edge_device.config.render import as_toml
    from fer_edge_device.config.render import example as example_text

    if example:
        print(example_text(), end="")
        return
    file = config_file or (SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None)
    if check:
        _check(file)
    else:
        print(hide_passwords(as_toml(load_config(file))), end="")


def _check(file: Path | None) -> None:
    """Print everything that is wrong, a line each."""
    from fer_edge_device.components import config_problems
    from fer_edge_device.config.load import file_problems, load_config
    from fer_edge_device.config.secret_files import open_secrets

    problems = file_problems(file) if file else []
    if not problems:
        settings = load_config(file)
        problems = config_problems(settings)
        for line in open_secrets(settings, file):
            warn(line)
    for problem in problems:
        say(f"fer-edge: {hide_passwords(problem)}", error=True)
    if problems:
        raise typer.Exit(2)
    say(f"{file or 'the defaults'}: valid")
