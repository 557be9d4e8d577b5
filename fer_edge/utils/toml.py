"""Reading TOML into typed structures: recipes and configurations."""

from __future__ import annotations

import copy
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from fer_edge.errors import InputError
from fer_edge.utils.validation import Problem, explain

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T", bound=msgspec.Struct)

_MAX_DEPTH: Final = 20  # ours have four
_MAX_PROBLEMS: Final = 100  # each takes as long as reading the document


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
        document = tomllib.loads(text.removeprefix("\ufeff"))  # a byte-order mark, as Notepad writes it
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source_name}: not valid TOML, {_place(error, text)}; correct it there") from error
    except (RecursionError, ValueError) as error:  # such as a number of thousands of digits
        raise InputError(f"{source_name}: not valid TOML, a value is nested too deeply or too long") from error
    if _depth(document) > _MAX_DEPTH:
        raise InputError(f"{source_name}: not valid, a table in it is nested too deeply")
    return document


def _depth(document: dict[str, Any]) -> int:
    """Return how deeply tables and arrays are nested; dotted keys nest without end where brackets may not."""
    level: list[Any] = [document]
    depth = 0
    while level := [
        value
        for one in level
        for value in (one.values() if isinstance(one, dict) else one)
        if isinstance(value, dict | list)
    ]:
        depth += 1
    return depth


def _place(error: tomllib.TOMLDecodeError, text: str) -> str:
    """Return the line of an error and what is wrong there."""
    message, _, place = str(error).rstrip(")").rpartition(" (at ")
    found = re.match(r"line (\d+)", place)
    line = int(found[1]) if found else max(len(text.rstrip().splitlines()), 1)
    return f"line {line}: {message[:1].lower()}{message[1:]}"


def to_struct(document: dict[str, Any], struct: type[T], source_name: str) -> T:
    """Convert a parsed TOML document to a typed structure.

    Args:
        document: the parsed document.
        struct: class of the result.
        source_name: name of the document, for errors.

    Raises:
        InputError: a key is unknown, or a value has the wrong type or is out of bounds. The message names the key.
    """
    try:
        return msgspec.convert(document, struct)
    except msgspec.ValidationError as error:
        raise InputError(f"{source_name}: {explain(error, struct).message}") from error


def find_problems(document: Mapping[str, Any], struct: type[msgspec.Struct]) -> list[Problem]:
    """Return what is wrong with a parsed TOML document, in its order: everything, or the first hundred problems.

    Args:
        document: the document.
        struct: the class that it is for.
    """
    rest = copy.deepcopy(dict(document))
    problems: dict[str, Problem] = {}
    while len(problems) < _MAX_PROBLEMS and (problem := _find_problem(rest, struct)):
        key = problem.key
        if key in problems:  # it lacks now, which is no other problem
            key = key.rpartition(".")[0]
        problems.setdefault(problem.key, problem)
        if not _remove_key(rest, key):
            break
    return list(problems.values())


def override(
    document: dict[str, Any], settings: Mapping[str, tuple[str, object]], struct: type[msgspec.Struct]
) -> None:
    """Set keys of a parsed document, then check them together, because some are valid only in combination.

    A problem that the document had before is not reported here; `to_struct` reports it.

    Args:
        document: the parsed document, which is changed.
        settings: dotted key and value, by the name under which the user gave them.
        struct: class of the document.

    Raises:
        InputError: a value is wrong. The message names the user's setting.
    """
    before = _find_problem(document, struct)
    for name, (key, value) in settings.items():
        _set_key(document, key, value, name)
    problem = _find_problem(document, struct)
    if problem is None or problem == before:
        return
    # A problem without a key, such as two values that contradict each other, may come from any setting.
    names = [name for name, (key, _) in settings.items() if not problem.key or f"{key}.".startswith(f"{problem.key}.")]
    raise InputError(f"{', '.join(names or settings)}: {problem.message}")


def parse_value(text: str) -> Any:  # noqa: ANN401 - any type that TOML has
    """Parse a single TOML value; a text that is not valid TOML is returned as a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (RecursionError, ValueError):
        return text.strip()


def _find_problem(document: dict[str, Any], struct: type[msgspec.Struct]) -> Problem | None:
    try:
        msgspec.convert(document, struct)
    except msgspec.ValidationError as error:
        return explain(error, struct)
    return None


def _remove_key(table: object, key: str) -> bool:
    """Remove a dotted key, parts of which may hold dots themselves, and return whether it was there."""
    if not isinstance(table, dict):
        return False
    if key in table:
        del table[key]
        return True
    return any(key.startswith(f"{name}.") and _remove_key(table[name], key[len(name) + 1 :]) for name in table)


def _set_key(document: dict[str, Any], key: str, value: object, source_name: str) -> None:
    *sections, last = key.split(".")
    table: Any = document
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"{source_name}: {section} is a value, not a table")
    table[last] = value
