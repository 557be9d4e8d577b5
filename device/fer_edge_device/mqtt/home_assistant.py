"""Announce a node to Home Assistant as one device with its entities.

The format is Home Assistant's device discovery (https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery,
release 2024.11 and later).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from fer_edge.classification.labels import FER2013, FERPLUS
from fer_edge_device.messages import Message
from fer_edge_device.mqtt.home_assistant_entities import Components, HaAvailability, make_components, removed_components

if TYPE_CHECKING:
    from fer_edge_device.messages import Info, MessageFactory


class HaDevice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The device, as Home Assistant shows it."""

    identifiers: tuple[str, ...]
    name: str
    manufacturer: str
    model: str
    sw_version: str
    suggested_area: str = ""
    configuration_url: str = ""


class HaOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """The program that announces the device."""

    name: str
    sw_version: str


class DeviceDiscovery(msgspec.Struct, frozen=True, kw_only=True):
    """The discovery message. Availability and QoS apply to every entity that has none of its own."""

    device: HaDevice
    origin: HaOrigin
    # Always a list: Home Assistant would add a single topic to the list of an entity, and refuse the whole device.
    availability: tuple[HaAvailability, ...]
    qos: int
    components: Components


class DeviceDescription(msgspec.Struct, frozen=True, kw_only=True):
    """What Home Assistant is told about the device, beside what is in its messages.

    Attributes:
        display_name: its name; empty: fer-edge and the node's name.
        suggested_area: the area that Home Assistant suggests when it adds the device; empty: none.
        has_temperature: whether the system reports the temperature of the processor.
        page_url: the address of the live page for other machines; empty: there is none.
    """

    display_name: str = ""
    suggested_area: str = ""
    has_temperature: bool = True
    page_url: str = ""


def discovery_message(
    messages: MessageFactory, info: Info, description: DeviceDescription, discovery_prefix: str = "homeassistant"
) -> Message:
    """Return the retained message that adds the node to Home Assistant.

    Args:
        messages: makes the node's messages.
        info: version and model; the model's labels become the options of the emotion sensor.
        description: how Home Assistant shows the device.
        discovery_prefix: Home Assistant's discovery prefix.
    """
    discovery = DeviceDiscovery(
        device=HaDevice(
            identifiers=(messages.identity,),
            name=description.display_name or f"fer-edge {messages.node}",
            manufacturer="fer-edge",
            model=f"{info.model} {info.model_sha256[:8]}",
            sw_version=info.version,
            suggested_area=description.suggested_area,
            configuration_url=description.page_url,
        ),
        origin=HaOrigin(name="fer-edge", sw_version=info.version),
        availability=(HaAvailability(topic=messages.topic("availability")),),
        qos=1,
        components=_components(messages, info.labels, description),
    )
    return Message(_topic(messages, discovery_prefix), msgspec.json.encode(discovery).decode(), 1, retain=True)


def removal_message(messages: MessageFactory, discovery_prefix: str = "homeassistant") -> Message:
    """Return the message that removes the node from Home Assistant."""
    return Message(_topic(messages, discovery_prefix), "", 1, retain=True)


def _components(messages: MessageFactory, labels: tuple[str, ...], description: DeviceDescription) -> Components:
    def made(labels: tuple[str, ...]) -> Components:
        return make_components(messages, labels, has_temperature=description.has_temperature)

    # Home Assistant keeps components that a later message lacks, and the last run may have used another model.
    components = made(labels)
    return components | removed_components(made(FER2013 + FERPLUS), components)


def _topic(messages: MessageFactory, discovery_prefix: str) -> str:
    # A node name may contain dots, but this part of Home Assistant's topics may not. Dots and underscores are replaced
    # together, also in a name that looks as if they had been, so that two names never share a topic.
    name = messages.identity
    if re.search(r"\.|_2e|_5f", name):
        name = name.replace("_", "_5f").replace(".", "_2e")
    return f"{discovery_prefix}/device/{name}/config"
