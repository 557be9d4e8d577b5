"""Edit a configuration file and keep its comments and layout."""

from __future__ import annotations

import json

import msgspec
import tomlkit

from fer_edge.errors import InputError
from fer_edge.utils.toml import parse_toml, to_struct
from fer_edge_device.config.settings import Config


def edit_config(text: str, source_name: str, *, model: str | None = None, remove_password_file: bool = False) -> str:
    """Return the text of a configuration with some keys changed.

    Args:
        text: the configuration.
        source_name: the name of its file, for errors.
        model: the new value of ``model``; None leaves it.
        remove_password_file: whether to remove ``mqtt.password_file``.

    Raises:
        InputError: the configuration is invalid.
    """
    expected = to_struct(parse_toml(text, source_name), Config, source_name)
    document = tomlkit.parse(text.removeprefix("\ufeff"))
    if remove_password_file:
        expected = msgspec.structs.replace(expected, mqtt=msgspec.structs.replace(expected.mqtt, password_file=""))
        if "mqtt" in document:
            document["mqtt"].pop("password_file", None)
    if model is not None:
        expected = msgspec.structs.replace(expected, model=model)
        if "model" in document:
            document["model"] = model
    edited = tomlkit.dumps(document)
    if model is not None and "model" not in document:
        # At the top, because the comment of the first table stands before its header.
        edited = f"model = {json.dumps(model, ensure_ascii=False)}\n{edited}"
    if to_struct(parse_toml(edited, source_name), Config, source_name) != expected:
        raise InputError(f"{source_name}: cannot be edited; write model and mqtt.password_file as lines, `key = value`")
    return edited
