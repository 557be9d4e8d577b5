"""Single tasks at a broker: check the login, and remove what it keeps of a node."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.broker import Broker
from fer_edge_device.mqtt.home_assistant import removal_message
from fer_edge_device.mqtt.login import connect

if TYPE_CHECKING:
    from fer_edge_device.config.settings import MqttSettings
    from fer_edge_device.mqtt.connection import Connection

_ANSWER_TIME: Final = 1.0  # seconds within which a broker sends what it keeps of a topic


def check_login(settings: MqttSettings, node: str, timeout: float = 10.0) -> str:
    """Log in once.

    Args:
        settings: the broker and the login.
        node: the node's name; a runner of this name stays connected.
        timeout: seconds for each step of the login.

    Returns:
        The connection and the user, in one line.

    Raises:
        InputError: a setting cannot be used.
        BrokerError: the connection failed; says why.
    """
    broker = Broker(settings)
    connection = connect(broker, f"{MessageFactory(node, settings.topic_prefix).identity}-check", timeout=timeout)
    user = f"as {broker.address.user}" if broker.address.user else "without a user"
    description = f"{connection}, logged in {user}"
    connection.disconnect(timeout)
    return description


def forget_node(settings: MqttSettings, messages: MessageFactory, timeout: float = 10.0, *, force: bool = False) -> str:
    """Remove all retained messages of a node from the broker, and its device from Home Assistant.

    Args:
        settings: the broker and the login.
        messages: makes the node's messages.
        timeout: seconds for each step.
        force: whether to do it even if the node seems to be running.

    Returns:
        The connection, in one line.

    Raises:
        InputError: a setting cannot be used, or the node is running.
        BrokerError: the broker cannot be reached, or refuses the messages; says why.
    """
    connection = connect(Broker(settings), f"{messages.identity}-forget", timeout=timeout)
    description = str(connection)
    try:
        if not force and _is_online(connection, messages):
            raise InputError(
                f"{messages.node} is online at {description}, and would publish its messages again: stop its runner"
                " first; --force removes what a runner that no longer exists has left"
            )
        connection.deliver([removal_message(messages, settings.ha_discovery_prefix), *messages.removals()], timeout)
    finally:
        connection.disconnect(timeout)
    return description


def _is_online(connection: Connection, messages: MessageFactory) -> bool:
    """Return whether the broker keeps ``online`` for a node. A node that is not online costs a moment."""
    connection.subscribe([messages.topic("availability")])
    deadline = clock.monotonic() + _ANSWER_TIME
    while (left := deadline - clock.monotonic()) > 0:
        connection.step(left)
        if received := connection.take_received():
            return received[0].payload == b"online"
    return False
