"""Helpers for the tests of MQTT."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import msgspec
import pytest

from fer_edge.errors import BrokerError
from fer_edge_device.config.settings import MqttSettings, OutboxSettings
from fer_edge_device.messages import Event, Info, MessageFactory
from fer_edge_device.mqtt.maintenance import check_login
from fer_edge_device.mqtt.outbox import since_boot
from fer_edge_device.mqtt.outbox_events import NewEvent
from fer_edge_device.mqtt.sink import MqttSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fer_edge_device.messages import Kind
    from fer_edge_device.mqtt.commands import SwitchCommand
    from tests.device.brokers import ReceivedMessage

MESSAGES = MessageFactory("hall")
INFO = Info(version="0", model="edge", model_sha256="0", labels=("a", "b"))


def event(number: int, track: str = "s-1") -> Event:
    return Event(
        event_type="update",
        id=track,
        time=number,
        emotion="a",
        score=1,
        scores={"a": 1},
        previous=None,
        box=(0, 0, 1, 1),
        duration_s=0,
        model="edge",
    )


def new_event(payload: bytes, topic: str = "fer-edge/hall/event", track: str = "", *, is_end: bool = True) -> NewEvent:
    return NewEvent(topic, payload, since_boot(), track, 0.0, is_end)


@contextmanager
def sending(
    tmp_path: Path,
    port: int,
    *,
    rate: float = 10_000,
    ha_discovery: bool = False,
    on_command: Callable[[SwitchCommand], bool] | None = None,
    backoff: tuple[float, float] = (0.02, 0.2),
    event_max_age_s: float = 3600.0,
    version: Literal["auto", "3.1.1"] = "auto",
) -> Iterator[MqttSink]:
    """Run a sink that has published its first message."""
    outbox = OutboxSettings(path=str(tmp_path / "outbox.sqlite"), max_rate=rate)
    settings = MqttSettings(
        url=f"mqtt://localhost:{port}", ha_discovery=ha_discovery, event_max_age_s=event_max_age_s, version=version
    )
    sink = MqttSink(MESSAGES, settings, outbox, on_command=on_command, backoff=backoff, retry=backoff)
    try:
        sink.publish(MESSAGES.availability("online"))
        yield sink
    finally:
        sink.close()


def times(received: list[ReceivedMessage], track: str = "s-1", kind: Kind = "event") -> list[float]:
    """Return the times of a track's updates in the order of arrival."""
    events = [
        msgspec.json.decode(message.payload, type=Event) for message in received if message.topic.endswith(f"/{kind}")
    ]
    return [event.time for event in events if event.id == track and event.event_type == "update"]


def refusal(settings: MqttSettings) -> str:
    with pytest.raises(BrokerError) as failed:
        check_login(settings, "hall", timeout=30)
    return str(failed.value)
