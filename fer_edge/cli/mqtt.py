"""`fer-edge mqtt`: manage what a broker keeps for a node."""

from __future__ import annotations

from typing import Annotated

import typer

from fer_edge.cli.options import Broker, ConfigFile, Node
from fer_edge.cli.output import say
from fer_edge.errors import InputError

app = typer.Typer(name="mqtt")


@app.callback()
def mqtt_root() -> None:
    """Manage what a broker keeps for a node.

    \b
    Example: fer-edge mqtt forget --mqtt mqtt://broker --node kitchen
    """


@app.command()
def forget(
    config: ConfigFile = None,
    broker: Broker = None,
    node: Node = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Do it even if the broker says that the node is online, or keeps nothing of it."),
    ] = False,
) -> None:
    """Remove a node's retained messages from the broker, and its device from Home Assistant.

    Stop the node's runner first: it would publish them again. A node that is online is therefore refused, and so is a
    name for which the broker keeps nothing.

    \b
    Example: fer-edge mqtt forget --mqtt mqtt://broker --node kitchen
    """
    from fer_edge_device.config.load import load_config
    from fer_edge_device.messages import MessageFactory
    from fer_edge_device.mqtt.maintenance import forget_node

    settings = load_config(config, options={"mqtt.url": broker, "node": node})
    if not settings.mqtt.url:
        raise InputError("no broker is given: --mqtt mqtt://HOST, or mqtt.url in the configuration")
    name = settings.node_name()
    reached = forget_node(settings.mqtt, MessageFactory(name, settings.mqtt.topic_prefix), force=force)
    say(f"{name} is forgotten at {reached}", error=True)
