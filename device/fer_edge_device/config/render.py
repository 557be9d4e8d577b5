"""Write a configuration as TOML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from fer_edge.utils.toml import Section
from fer_edge_device.config.settings import Config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from msgspec.structs import FieldInfo


def example(values: Mapping[str, object] | None = None) -> str:
    """Return a configuration with every key commented out, each with its default, bounds and description.

    Args:
        values: values by dotted key, such as ``camera.source``, that are set instead of commented out.
    """
    return "# fer-edge: every key with its default. Remove the leading '# ' of a line to change it.\n\n" + _toml(
        Config(), values or {}, comment="# ", with_descriptions=True
    )


def as_toml(config: Config) -> str:
    """Return a configuration as TOML, with every key."""
    return _toml(config, {}, comment="", with_descriptions=False)


def _toml(config: Config, values: Mapping[str, object], *, comment: str, with_descriptions: bool) -> str:
    def lines(section: Section, prefix: str = "") -> list[str]:
        return [
            (f"# {_description(field)}\n" if with_descriptions else "")
            + ("" if prefix + field.name in values else comment)
            + _line(field.name, values.get(prefix + field.name, getattr(section, field.name)))
            for field in msgspec.structs.fields(type(section))
            if not isinstance(getattr(section, field.name), Section)
        ]

    parts = ["\n".join(lines(config))]
    for field in msgspec.structs.fields(Config):
        section = getattr(config, field.name)
        if isinstance(section, Section):
            title = [f"# {(section.__doc__ or '').splitlines()[0]}"] if with_descriptions else []
            parts.append("\n".join([*title, f"[{field.name}]", *lines(section, f"{field.name}.")]))
    return "\n\n".join(parts) + "\n"


def _line(name: str, value: object) -> str:
    # Strings, numbers and booleans are the same in JSON and in TOML.
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"


def _description(field: FieldInfo) -> str:
    """Return what a key is for, and its bounds."""
    kind = msgspec.inspect.type_info(field.type)
    text = ""
    if isinstance(kind, msgspec.inspect.Metadata):
        text, kind = (kind.extra_json_schema or {}).get("description", ""), kind.type
    bounds = ""
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        lower = f"{kind.ge:.10g}" if kind.ge is not None else f"above {kind.gt:.10g}" if kind.gt is not None else "any"
        upper = f"{kind.le:.10g}" if kind.le is not None else f"below {kind.lt:.10g}" if kind.lt is not None else "any"
        bounds = f" ({lower} to {upper})"
    elif isinstance(kind, msgspec.inspect.LiteralType):
        bounds = f" ({', '.join(map(str, kind.values))})"
    return f"{text}{bounds}"
