"""Read TOML into typed values: recipes and configurations."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fer_edge.errors import InputError
from fer_edge.utils.validation import Problem, explain

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in TOML. An unknown key is an error."""


def parse(text: str, where: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Args:
        text: the TOML.
        where: where it comes from, for errors.

    Raises:
        InputError: it is not valid TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: {error}") from error


def convert(tables: dict[str, Any], to: type[T], where: str) -> T:
    """Return tables as typed values.

    Args:
        tables: what `parse` returned.
        to: the type.
        where: where they come from, for errors.

    Raises:
        InputError: a key is unknown, or a value has the wrong type or is out of bounds. The message names the key.
    """
    try:
        return msgspec.convert(tables, to)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {explain(error, to).message}") from error


def override(tables: dict[str, Any], given: Mapping[str, tuple[str, object]], to: type[msgspec.Struct]) -> None:
    """Set keys, then check them together, because some are valid only in combination.

    What was wrong before is not reported: `convert` reports it.

    Args:
        tables: changed in place.
        given: dotted key and value, by the name under which the user gave them.
        to: the type of the tables.

    Raises:
        InputError: a value is wrong. The message names what the user gave.
    """
    before = _problem(tables, to)
    for name, (key, value) in given.items():
        _put(tables, key, value, name)
    problem = _problem(tables, to)
    if problem is None or problem == before:
        return
    # What is wrong with the whole, such as two values that contradict each other, may come from any of them.
    names = [name for name, (key, _) in given.items() if not problem.key or f"{key}.".startswith(f"{problem.key}.")]
    raise InputError(f"{', '.join(names or given)}: {problem.message}")


def toml_value(text: str) -> Any:  # noqa: ANN401 - whatever TOML has
    """Return the value of a TOML text; text that is not TOML is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _problem(tables: dict[str, Any], to: type[msgspec.Struct]) -> Problem | None:
    try:
        msgspec.convert(tables, to)
    except msgspec.ValidationError as error:
        return explain(error, to)
    return None


def _put(tables: dict[str, Any], key: str, value: object, where: str) -> None:
    *sections, last = key.split(".")
    table: Any = tables
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"{where}: {section} is a value, not a table")
    table[last] = value
