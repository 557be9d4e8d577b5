"""TOML that becomes typed values: recipes and configurations."""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec

from fer_edge.errors import InputError

T = TypeVar("T", bound=msgspec.Struct)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table; an unknown key is refused."""


def parse(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Raises:
        InputError: it is no TOML; ``where`` says whose.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: {error}") from error


def convert(tables: dict[str, Any], to: type[T], where: str) -> T:
    """Typed values of tables.

    Raises:
        InputError: a key is unknown, of another type or out of bounds; says which, and for an unknown one the nearest.
    """
    try:
        return msgspec.convert(tables, to)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}{_nearest(str(error), to)}{_choices(str(error), to)}") from error


def put(tables: dict[str, Any], key: str, value: str, where: str) -> None:
    """Set ``section.key`` to what a TOML value says; what is no TOML is a string.

    Raises:
        InputError: the key is none, or leads through a value.
    """
    *path, last = key.strip().split(".")
    table: Any = tables
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise InputError(f"{where}: {part} is a value, not a table")
    table[last] = toml_value(value)


def toml_value(text: str) -> Any:  # noqa: ANN401 - whatever TOML has
    """What a TOML value says; what is no TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _nearest(message: str, to: type[msgspec.Struct]) -> str:
    """A hint for an unknown key: the known one that looks most like it."""
    if "unknown field" not in message:
        return ""
    parts = message.split("`")
    near = difflib.get_close_matches(parts[1], sorted(_keys(to)), 1) if len(parts) > 1 else []
    return f"; did you mean {near[0]}?" if near else ""


def _choices(message: str, to: Any) -> str:  # noqa: ANN401 - a type of any form
    """A hint for a value that is none of those that a key takes: which they are."""
    found = re.search(r"enum value .*`\$\.([\w.]+)`", message)
    for name in found[1].split(".") if found else ():
        to = next((field.type for field in msgspec.structs.fields(to) if field.encode_name == name), None)
        to = get_args(to)[0] if get_origin(to) is Annotated else to
    return f"; it takes {', '.join(map(str, get_args(to)))}" if found and get_origin(to) is Literal else ""


def _keys(of: Any) -> set[str]:  # noqa: ANN401 - a type of any form
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        fields = msgspec.structs.fields(of)
        return {field.encode_name for field in fields}.union(*(_keys(field.type) for field in fields))
    return set().union(*map(_keys, get_args(of)))
