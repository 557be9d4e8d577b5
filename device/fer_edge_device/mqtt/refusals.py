"""Messages that the broker refuses, in as few lines of the log as possible."""

from __future__ import annotations

import logging
import math
import time as clock
from typing import TYPE_CHECKING, Final

from fer_edge_device.mqtt.failures import refusal_advice

if TYPE_CHECKING:
    from fer_edge_device.mqtt.broker import Broker
    from fer_edge_device.mqtt.connection import PublishAck

logger = logging.getLogger(__name__)

_COLLECTING_TIME: Final = 1.0  # seconds in which further refusals are waited for


class Refusals:
    """Collects refusals and logs them together, each topic once. Not thread-safe."""

    def __init__(self, broker: Broker) -> None:
        """Start without refusals.

        Args:
            broker: the broker, for the log.
        """
        self._broker = broker
        self._topics: dict[str, list[str]] = {}  # of each reason, those that were not logged yet
        self._known: set[tuple[str, str]] = set()
        self._since = math.inf

    def add(self, ack: PublishAck) -> None:
        """Add a refusal."""
        if (ack.refusal, ack.topic) not in self._known:
            self._known.add((ack.refusal, ack.topic))
            self._topics.setdefault(ack.refusal, []).append(ack.topic)
            self._since = min(self._since, clock.monotonic())

    def log(self, *, at_end: bool = False) -> None:
        """Log the refusals a moment after the first of them; call this now and then.

        Args:
            at_end: do not wait for others.
        """
        if not (at_end or clock.monotonic() - self._since >= _COLLECTING_TIME):
            return
        for reason, topics in self._topics.items():
            advice = refusal_advice(self._broker.address.user, topics, reason)
            logger.warning("%s: refuses messages (%s); %s", self._broker.address, reason, advice)
        self._topics.clear()
        self._since = math.inf

    def forget(self) -> None:
        """Log the refusals of the next connection again."""
        self._known.clear()
