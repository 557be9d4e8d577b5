"""Single tasks at a broker: check the login, and remove what it keeps of a node."""

from __future__ import annotations

import time as clock
from functools import partial
from typing import TYPE_CHECKING, Final

from fer_edge.errors import InputError
from fer_edge_device.messages import MessageFactory
from fer_edge_device.mqtt.broker import Broker
from fer_edge_device.mqtt.connection import PacketTooLargeError
from fer_edge_device.mqtt.home_assistant import removal_message
from fer_edge_device.mqtt.login import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        force: whether to do it even if the node seems to be running, or nothing of it is found.

    Returns:
        The connection, in one line.

    Raises:
        InputError: a setting cannot be used, the node is running, or the broker keeps nothing of it.
        BrokerError: the broker cannot be reached, or refuses the messages; says why.
    """
    removals = [*messages.removals(), removal_message(messages, settings.ha_discovery_prefix)]
    open_connection = partial(connect, Broker(settings), f"{messages.identity}-forget", timeout=timeout)
    if not force:
        _check_forgettable(open_connection, messages, [message.topic for message in removals], timeout)
    connection = open_connection()
    description = str(connection)
    try:
        connection.deliver(removals, timeout)
    finally:
        connection.disconnect(timeout)
    return description


def _check_forgettable(
    open_connection: Callable[[], Connection], messages: MessageFactory, topics: Sequence[str], timeout: float
) -> None:
    """Raise an `InputError` if a node is online, or if the broker keeps nothing of it."""
    connection = open_connection()
    description = str(connection)
    found = _find_retained(connection, topics, timeout, last=messages.topic("availability"))
    if found.get(messages.topic("availability")) == b"online":
        raise InputError(
            f"{messages.node} is online at {description}, and would publish its messages again: stop its runner"
            " first; --force removes what a runner that no longer exists has left"
        )
    if not found:
        raise InputError(
            f"nothing is known of {messages.node} at {description}: check --node and mqtt.topic_prefix; --force removes"
            " what this user may not read"
        )


def _find_retained(connection: Connection, topics: Sequence[str], timeout: float, *, last: str) -> dict[str, bytes]:
    """Return what the broker keeps of some topics, and disconnect. A topic of which it keeps nothing costs a moment.

    Args:
        connection: a new connection.
        topics: the topics.
        timeout: seconds for each step.
        last: the topic after which the others do not matter.
    """
    found: dict[str, bytes] = {}

    def wait(seconds: float, ended: Callable[[], bool]) -> None:
        deadline = clock.monotonic() + seconds
        while not ended() and (left := deadline - clock.monotonic()) > 0:
            connection.step(left)
            found.update((message.topic, message.payload) for message in connection.take_received() if message.payload)

    try:
        connection.subscribe(topics)
        wait(timeout, lambda: connection.subscribed)
        wait(_ANSWER_TIME, lambda: last in found)
    except PacketTooLargeError as error:
        # MQTT 3.1.1 knows no limit. What came before this message has arrived.
        found.update((message.topic, message.payload) for message in connection.take_received())
        found[error.large_message.topic] = b""
    finally:
        connection.disconnect(timeout)
    return found
