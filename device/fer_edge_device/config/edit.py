"""The text of a configuration, changed where it must be, its comments kept."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from fer_edge.errors import InputError
from fer_edge.utils.toml import parse_toml, to_struct
from fer_edge_device.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator


def fitted(text: str, where: str, *, model: str | None, without_password_file: bool = False) -> str:
    """A configuration's text with another model, its comments kept.

    Args:
        text: the configuration.
        where: whose it is, for errors.
        model: what it is to say of the model; None leaves it.
        without_password_file: whether to leave out where the broker's password is.

    Raises:
        InputError: it is wrong, or is written in a way that this does not understand.
    """
    before = to_struct(parse_toml(text, where), Config, where)
    wanted = before
    if model is not None:
        wanted = msgspec.structs.replace(wanted, model=model)
    if without_password_file:
        wanted = msgspec.structs.replace(wanted, mqtt=msgspec.structs.replace(wanted.mqtt, password_file=""))
    lines = list(_kept_lines(text, model=model is None, password_file=not without_password_file))
    if model is not None:
        lines.insert(0, f"model = {json.dumps(model)}")
    changed = "\n".join(lines) + "\n"
    try:
        same = to_struct(parse_toml(changed, where), Config, where) == wanted
    except InputError:
        same = False
    if not same:
        raise InputError(f"{where}: write model and mqtt.password_file as plain lines, `key = value`")
    return changed


def _kept_lines(text: str, *, model: bool, password_file: bool) -> Iterator[str]:
    table = ""
    for line in text.splitlines():
        if header := re.match(r"\s*\[\s*([^\]]*?)\s*\]", line):
            table = f"{header[1]}."
        key = re.match(r"\s*([A-Za-z0-9_.]+)\s*=", line)
        name = f"{table}{key[1]}" if key else ""
        if (model or name != "model") and (password_file or name != "mqtt.password_file"):
            yield line
