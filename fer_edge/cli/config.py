"""`fer-edge config`: show, check or print an example of the configuration."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_edge.cli.options import ConfigFile
from fer_edge.cli.output import say, warn
from fer_edge.errors import hide_passwords

app = typer.Typer()


@app.command()
def config(
    config_file: ConfigFile = None,
    example: Annotated[bool, typer.Option("--example", help="Print every key with its default, as comments.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check it.")] = False,
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
    settings = load_config(config_file)
    origin = config_file or (SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else "the defaults")
    if not check:
        print(hide_passwords(as_toml(settings)), end="")
        return
    from fer_edge_device.app import check_config
    from fer_edge_device.config.secret_files import open_secrets

    check_config(settings)
    for line in open_secrets(settings, config_file or (SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None)):
        warn(line)
    say(f"{origin}: valid")
