"""The tables of configuration keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec

from fer_edge.utils.toml import Section
from fer_edge_device.config.settings import PATHS, RELOADED_KEYS, RESTART_SECTIONS, Config
from reference_tables.markdown import bounds, choices, code, lines, prose, table

if TYPE_CHECKING:
    from msgspec.structs import FieldInfo

_HEAD: Final = ("key", "value", "meaning and variable")


def key_tables() -> str:
    """Return the tables of all keys, each section with its heading."""
    parts = [
        "## Without a section\n\nThese keys stand at the beginning of the file.\n",
        _table(Config()),
    ]
    for field in msgspec.structs.fields(Config):
        if isinstance(field.default, Section):
            parts += [f"## [{field.name}] {{#{field.name}}}\n", _introduction(field.name, field.default)]
            parts.append(_table(field.default, f"{field.name}."))
    return "\n".join(parts)


def all_keys() -> list[str]:
    """Return the dotted names of all keys."""
    keys = []
    for field in msgspec.structs.fields(Config):
        if isinstance(field.default, Section):
            keys += [f"{field.name}.{inner.name}" for inner in msgspec.structs.fields(type(field.default))]
        else:
            keys.append(field.name)
    return keys


def _introduction(name: str, section: Section) -> str:
    text = prose((section.__doc__ or "").splitlines()[0])
    if name in RESTART_SECTIONS:
        reloaded = [code(key.partition(".")[2]) for key in RELOADED_KEYS if key.startswith(f"{name}.")]
        text += " A change takes effect after a restart"
        text += f"; one of {' or '.join(reloaded)} on SIGHUP." if reloaded else "."
    return f"{text}\n"


def _table(section: Section, prefix: str = "") -> str:
    fields = [field for field in msgspec.structs.fields(type(section)) if not isinstance(field.default, Section)]
    return table(_HEAD, [_row(field, prefix) for field in fields])


def _row(field: FieldInfo, prefix: str) -> tuple[str, ...]:
    key = prefix + field.name
    kind = msgspec.inspect.type_info(field.type)
    if not isinstance(kind, msgspec.inspect.Metadata) or not (kind.extra_json_schema or {}).get("description"):
        raise ValueError(f"{key} has no description")
    return (
        f"{code(field.name)}{{#{key}}}",
        lines(
            _value(kind, field.default, is_path=key in PATHS),
            f"default: {code(json.dumps(field.default, ensure_ascii=False))}",
        ),
        lines(prose((kind.extra_json_schema or {})["description"]), code(f"FER_EDGE_{key.replace('.', '_').upper()}")),
    )


def _value(described: msgspec.inspect.Metadata, default: object, *, is_path: bool) -> str:
    kind = described.type
    if isinstance(kind, msgspec.inspect.LiteralType):
        return choices(json.dumps(value) for value in kind.values)
    if isinstance(kind, msgspec.inspect.BoolType):
        return "`true` or `false`"
    if isinstance(kind, msgspec.inspect.IntType):
        return bounds("whole number", kind.ge, kind.le, kind.gt)
    if isinstance(kind, msgspec.inspect.FloatType):
        return bounds("number", kind.ge, kind.le, kind.gt)
    if not isinstance(kind, msgspec.inspect.StrType):
        raise TypeError(f"{kind}: say what it is called")
    text = "text" if not is_path else "text or path" if default else "path"
    if kind.max_length is not None:
        text += f", at most {kind.max_length} characters"
    form = (described.extra or {}).get("form")
    return f"{text}; must {prose(form)}" if form else text
