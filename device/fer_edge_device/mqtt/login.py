"""Log in to a broker with the version of MQTT that it speaks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from paho.mqtt.enums import MQTTProtocolVersion

from fer_edge_device.mqtt.connection import Connection, OtherVersionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fer_edge_device.messages import Message
    from fer_edge_device.mqtt.broker import Broker

_VERSIONS: Final = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


def connect(
    broker: Broker,
    client_id: str,
    *,
    will: Message | None = None,
    timeout: float = 10.0,
    deadline: Callable[[], float] = lambda: math.inf,
    first: MQTTProtocolVersion | None = None,
) -> Connection:
    """Connect with MQTT 5, or with 3.1.1 if the broker refuses, ignores or closes a login with MQTT 5.

    Args:
        broker: the broker; it may be configured to use one version only.
        client_id: our name at the broker.
        will: the message that the broker publishes when the connection is lost.
        timeout: seconds for each step of each login.
        deadline: returns the time on the monotonic clock at which the login is abandoned; called repeatedly.
        first: the version to try first, because it worked before; None: MQTT 5.

    Raises:
        BrokerError: the connection failed; says why.
        InputError: the file of a password or certificate can no longer be used.
    """
    versions = [_VERSIONS[broker.version]] if broker.version in _VERSIONS else [*_VERSIONS.values()]
    versions.sort(key=lambda version: version != first)  # a stable sort
    for version in versions[:-1]:
        try:
            return Connection(broker, client_id, version, will, timeout=timeout, deadline=deadline)
        except OtherVersionError:
            continue
    return Connection(broker, client_id, versions[-1], will, timeout=timeout, deadline=deadline)
