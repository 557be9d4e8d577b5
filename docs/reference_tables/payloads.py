"""The tables of message payloads, and their JSON Schemas."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any, Final

import msgspec

from fer_edge_device import messages
from fer_edge_device.live_settings import LiveSettings, SettingsChange
from reference_tables.markdown import bounds, choices, code, lines, prose, table

_PAYLOADS: Final[dict[str, type[msgspec.Struct]]] = {
    "event": messages.Event,
    "state": messages.State,
    "stats": messages.Stats,
    "info": messages.Info,
    "settings": LiveSettings,
    "settings-change": SettingsChange,
}
_TEXTS: Final = {
    "availability": typing.get_args(messages.Availability),
    "camera": typing.get_args(messages.CameraStatus),
    "enabled/state": ("ON", "OFF"),
    "enabled/set": ("ON", "OFF"),
    "restart/set": ("PRESS",),
}


def payload_tables() -> str:
    """Return a table for each payload, each with its heading."""
    parts = [_describe(name, struct) for name, struct in _PAYLOADS.items()]
    texts = table(("topic", "text"), [(code(topic), choices(values)) for topic, values in _TEXTS.items()])
    return "\n".join([*parts, "### Plain texts\n", "These payloads are a word, not JSON.\n", texts])


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each payload, by its name."""
    return {name: _schema(name, struct) for name, struct in _PAYLOADS.items()}


def _describe(name: str, struct: type[msgspec.Struct]) -> str:
    parts = [f"### {name} {{#{name}}}\n", f"{prose(_summary(struct))} [JSON Schema](schemas/{name}.json)\n"]
    rows = _rows(struct)
    for field in msgspec.structs.fields(struct):  # a structure inside takes its place behind the field
        inner = _inner_structs(field)
        rows += [(f"{code(field.name)} → {key}", value, meaning) for one in inner for key, value, meaning in _rows(one)]
    return "\n".join([*parts, table(("field", "value", "meaning"), rows)])


def _rows(struct: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    fields = msgspec.structs.fields(struct)
    return [
        (code(field.name), _value(msgspec.inspect.type_info(field.type)), prose(_meaning(struct, field.name)))
        for field in fields
    ]


def _value(kind: msgspec.inspect.Type) -> str:
    """Return what a field holds: its type, unit and bounds, and whether it may be null."""
    if isinstance(kind, msgspec.inspect.Metadata):
        unit = (kind.extra or {}).get("unit", "")
        limits = kind.extra_json_schema or {}
        words = bounds(_value(kind.type), limits.get("minimum"), limits.get("maximum"))
        return lines(words, f"unit: {unit}" if unit else "")
    if isinstance(kind, msgspec.inspect.UnionType):
        (inner,) = [one for one in kind.types if not isinstance(one, msgspec.inspect.NoneType)]
        return lines(_value(inner), "or `null`")
    if isinstance(kind, msgspec.inspect.DictType):
        return f"object; each value: {_value(kind.value_type)}"
    if isinstance(kind, msgspec.inspect.TupleType):
        return f"array of {len(kind.item_types)}; each: {_value(kind.item_types[0])}"
    return f"array; each: {_value(kind.item_type)}" if isinstance(kind, msgspec.inspect.VarTupleType) else _simple(kind)


def _simple(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.LiteralType):
        return choices(kind.values)
    if isinstance(kind, msgspec.inspect.IntType):
        return bounds("whole number", kind.ge, kind.le)
    if isinstance(kind, msgspec.inspect.FloatType):
        return bounds("number", kind.ge, kind.le)
    names: dict[type[msgspec.inspect.Type], str] = {
        msgspec.inspect.StrType: "text",
        msgspec.inspect.BoolType: "`true` or `false`",
        msgspec.inspect.StructType: "object, see below",
    }
    return names[type(kind)]


def _inner_structs(field: msgspec.structs.FieldInfo) -> list[type[msgspec.Struct]]:
    """Return the structures in a field."""
    return _structs(msgspec.inspect.type_info(field.type))


def _structs(kind: msgspec.inspect.Type) -> list[type[msgspec.Struct]]:
    if isinstance(kind, msgspec.inspect.DictType):
        return _structs(kind.value_type)
    if isinstance(kind, msgspec.inspect.UnionType):
        return [one for inner in kind.types for one in _structs(inner)]
    return [kind.cls] if isinstance(kind, msgspec.inspect.StructType) else []


def _summary(struct: type[msgspec.Struct]) -> str:
    return (inspect.getdoc(struct) or "").splitlines()[0].replace("None", "null")


def _meaning(struct: type[msgspec.Struct], name: str) -> str:
    """Return what a field means: from the structure's docstring, or from its type."""
    attributes = (inspect.getdoc(struct) or "").partition("Attributes:\n")[2]
    found = re.search(rf"^ {{4}}{name}: (.*(?:\n {{8}}.*)*)", attributes, re.MULTILINE)
    if found and found[1] == "as in `Event`.":
        return _meaning(messages.Event, name)
    if found:
        return re.sub(r"\bNone\b", "null", " ".join(found[1].split()))
    described = _description(msgspec.inspect.type_info(typing.get_type_hints(struct, include_extras=True)[name]))
    if not described:
        raise ValueError(f"{struct.__name__}.{name} has no description")
    return described


def _description(kind: msgspec.inspect.Type) -> str:
    if isinstance(kind, msgspec.inspect.UnionType):
        return next(filter(None, map(_description, kind.types)), "")
    if isinstance(kind, msgspec.inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description", ""))
    return ""


def _schema(name: str, struct: type[msgspec.Struct]) -> dict[str, Any]:
    schema = msgspec.json.schema(struct)
    inner = [one for field in msgspec.structs.fields(struct) for one in _inner_structs(field)]
    by_name = {one.__name__: one for one in (struct, *inner)}
    for title, definition in schema["$defs"].items():
        described = by_name[title]
        definition["description"] = _summary(described).replace("`", "")
        for key, value in definition["properties"].items():
            value["description"] = _meaning(described, key).replace("`", "")
        if described is not SettingsChange:  # all that is sent is sent with every field
            definition["required"] = [*definition["properties"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"fer-edge {name}", **schema}
