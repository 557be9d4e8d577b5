"""Reading TOML into typed structures: recipes and configurations."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from fer_edge.errors import InputError

T = TypeVar("T", bound=msgspec.Struct)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of a TOML table; an unknown key is an error."""


def parse_toml(text: str, source_name: str) -> dict[str, Any]:
    """Parse a TOML document.

    Args:
        text: the document.
        source_name: name of the document, for errors.

    Raises:
        InputError: the text is not valid TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source_name}: {error}") from error


def to_struct(document: dict[str, Any], struct: type[T], source_name: str) -> T:
    """Convert a parsed TOML document to a typed structure.

    Args:
        document: the parsed document.
        struct: class of the result.
        source_name: name of the document, for errors.

    Raises:
        InputError: a key is unknown, or its value has the wrong type or is out of bounds.  The message names the key,
            and for an unknown key the most similar known one.
    """
    try:
        return msgspec.convert(document, struct)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{source_name}: {error}{_nearest(str(error), struct)}{_choices(str(error), struct)}"
        ) from error


def set_key(document: dict[str, Any], key: str, value: str, source_name: str) -> None:
    """Set a key of a parsed TOML document.

    Args:
        document: the parsed document, which is changed.
        key: the key with its tables, such as ``section.key``; missing tables are created.
        value: the value as TOML; a text that is not valid TOML becomes a string.
        source_name: name of the setting, for errors.

    Raises:
        InputError: a part of the key before the last is a value, not a table.
    """
    *path, last = key.strip().split(".")
    table: Any = document
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"{source_name}: {part} is a value, not a table")
    table[last] = parse_value(value)


def parse_value(text: str) -> Any:  # noqa: ANN401 - any type that TOML has
    """Parse a single TOML value; a text that is not valid TOML is returned as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _nearest(message: str, struct: type[msgspec.Struct]) -> str:
    """Return a hint for an unknown key: the most similar known key."""
    if "unknown field" not in message:
        return ""
    parts = message.split("`")
    near = difflib.get_close_matches(parts[1], sorted(_keys(struct)), 1) if len(parts) > 1 else []
    return f"; did you mean {near[0]}?" if near else ""


def _choices(message: str, kind: Any) -> str:  # noqa: ANN401 - any type annotation
    """Return a hint for a value that is not among the choices of its key: the list of choices."""
    match = re.search(r"enum value .*`\$\.([\w.]+)`", message)
    for name in match[1].split(".") if match else ():
        kind = next((field.type for field in msgspec.structs.fields(kind) if field.encode_name == name), None)
        kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return f"; it takes {', '.join(map(str, get_args(kind)))}" if match and get_origin(kind) is Literal else ""


def _keys(kind: Any) -> set[str]:  # noqa: ANN401 - any type annotation
    """Collect the keys of a structure and of all structures inside it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = msgspec.structs.fields(kind)
        return {field.encode_name for field in fields}.union(*(_keys(field.type) for field in fields))
    return set().union(*map(_keys, get_args(kind)))
