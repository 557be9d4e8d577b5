"""`fer-edge web`: what opens the live page from other machines."""

from __future__ import annotations

import typer

from fer_edge.cli.options import ConfigFile, Node

app = typer.Typer(name="web")


@app.callback()
def web_root() -> None:
    """Manage who may open the live page of `fer-edge run --web`.

    \b
    Example: sudo fer-edge web token
    """


@app.command()
def token(config: ConfigFile = None, node: Node = None) -> None:
    """Show the token that opens the page from other machines; make one if there is none.

    \b
    Example: sudo fer-edge web token
    """
    from fer_edge_device.config.load import SYSTEM_CONFIG, load_config
    from fer_edge_device.web.start import show_token

    print(show_token(load_config(config, options={"node": node}), config or SYSTEM_CONFIG))
