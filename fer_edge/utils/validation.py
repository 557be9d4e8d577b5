"""Translate msgspec's error messages into the words of a user."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from fer_edge.utils.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES: Final = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "null",
}
_BOUNDS: Final = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}
_MOST_HINTS: Final = 3


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a value.

    Attributes:
        key: dotted name of the value, such as ``optimizer.learning_rate``; empty for the whole.
        message: what is wrong, in one line that names the key.
    """

    key: str
    message: str


def explain(error: msgspec.MsgspecError | UnicodeDecodeError, to: Any) -> Problem:  # noqa: ANN401 - a type of any form
    """Return what is wrong, in plain words.

    Args:
        error: an error of `msgspec.convert` or of a decoder.
        to: the type that was wanted.
    """
    if not isinstance(error, msgspec.ValidationError):
        return Problem("", _undecodable(error))
    message, path, inside = _split(str(error))
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message):
        key = _join(path, found[1])
        return Problem(key, f"there is no key {key}{_nearest(key, to)}")
    if found := re.fullmatch(r"Object missing required field `(.*)`", message):
        key = _join(path, found[1])
        return Problem(key, f"{key} is missing")
    subject = f"{inside}{path}" if path else "it"
    if found := re.fullmatch(r"Invalid (?:enum )?value (.*)", message):
        return Problem(path, f"{subject} cannot be {found[1]}{_choices(path, to)}")
    if found := re.fullmatch(r"Expected `(.*?)`(.*)", message):
        form = _form(path, to) if found[2].startswith(" matching regex") else ""
        return Problem(path, f"{subject} must {form or _describe_expectation(found[1], found[2])}")
    # Else a check of our own refused it, in our own words, which name the key.
    return Problem(path, message)


def _undecodable(error: msgspec.MsgspecError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError) or "UTF-8" in str(error):  # before and since msgspec 0.23
        return "it is not text in UTF-8"
    byte = re.search(r"\(byte (\d+)\)$", str(error))
    return f"it is not valid JSON from byte {byte[1]} on" if byte else "it ends too early"


def _split(message: str) -> tuple[str, str, str]:
    """Return what is wrong, the dotted path, and how the path is to be read."""
    reason, at, place = message.rpartition(" - at ")
    if not at:
        return message, "", ""
    path = place.rpartition("`$")[2].rstrip("`").removeprefix(".")
    if place.startswith("`key`"):
        return reason, path, "a key of "
    if path.endswith("[...]"):
        return reason, path.removesuffix("[...]"), "each value of "
    return reason, path, ""


def _describe_expectation(type_names: str, rest: str) -> str:
    """Return what a value must be, or have, from what msgspec expects and what it says of that."""
    names = [name for name in type_names.split(" | ") if name != "null"] or ["null"]
    kind = listed([_TYPES.get(name, name) for name in names], "or")
    if found := re.fullmatch(r", got `(.*)`", rest):
        is_fraction = names == ["int"] and found[1] == "float"
        return f"be {kind}, {'without a decimal point' if is_fraction else f'not {_TYPES.get(found[1], found[1])}'}"
    if found := re.fullmatch(r" (>=|>|<=|<) (-?[\d.e+-]+)", rest):
        return f"be {_BOUNDS[found[1]]} {_in_digits(found[2])}"
    if found := re.fullmatch(r" that's a multiple of (\d+)", rest):
        return f"be a multiple of {found[1]}"
    if found := re.fullmatch(
        r" of (?:(>=|<=|at least|at most) )?length (>=|<=|)\s?(\d+)(?: to (\d+))?(?:, got (\d+))?", rest
    ):
        bound = _BOUNDS.get(found[1] or found[2], found[1] or "")
        noun = "character" if names == ["str"] else "entry"
        number = f"{found[3]} to {found[4]} entries" if found[4] else counted(int(found[3]), noun, _plural(noun))
        return " ".join(filter(None, ["have", bound, number])) + (f", not {found[5]}" if found[5] else "")
    if found := re.fullmatch(r" matching regex (.*)", rest):
        return f"match the pattern {found[1]}"
    return f"be {kind}"


def _in_digits(number: str) -> str:
    """Return a number as people write it, without an exponent."""
    value = Decimal(number)
    return f"{value:,f}" if value % 1 else f"{value:,.0f}"


def _plural(noun: str) -> str:
    return "entries" if noun == "entry" else f"{noun}s"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _nearest(key: str, to: Any) -> str:  # noqa: ANN401 - a type of any form
    """Return a hint for an unknown key: the known ones that look most like it."""
    section, _, last = key.rpartition(".")
    known: dict[str, list[str]] = {}
    for name in _keys(to):
        if name != key:
            known.setdefault(name.rpartition(".")[2], []).append(name)
    for word in difflib.get_close_matches(last, known, 1):
        here = [name for name in known[word] if name == _join(section, word)]
        names = here or known[word]
        return f"; did you mean {listed(names, 'or')}?" if len(names) <= _MOST_HINTS else ""
    return ""


def _keys(of: Any, prefix: str = "") -> Iterator[str]:  # noqa: ANN401 - a type of any form
    """Yield the dotted name of each key, sections too, each once."""
    seen = set()
    for struct in _structs(of):
        for field in msgspec.structs.fields(struct):
            name = f"{prefix}{field.encode_name}"
            for key in (name, *_keys(field.type, f"{name}.")):
                if key not in seen:
                    seen.add(key)
                    yield key


def _structs(of: Any) -> Iterator[type[msgspec.Struct]]:  # noqa: ANN401 - a type of any form
    """Yield the structures that a type may be: those of a union, too."""
    if isinstance(of, type) and issubclass(of, msgspec.Struct):
        yield of
    elif get_origin(of) is not dict:
        for each in get_args(of):
            yield from _structs(each)


def _form(path: str, to: Any) -> str:  # noqa: ANN401 - a type of any form
    """Return the form that a text must have, in words: those that its `msgspec.Meta` has as ``extra["form"]``."""
    for struct, last in _owners(path, to):
        for meta in getattr(_field(struct, last), "__metadata__", ()):
            if isinstance(meta, msgspec.Meta) and (form := (meta.extra or {}).get("form")):
                return str(form)
    return ""


def _choices(path: str, to: Any) -> str:  # noqa: ANN401 - a type of any form
    """Return a hint for a value that is none of those that a key takes: which they are."""
    owners = _owners(path, to)
    tags = [str(config.tag) for struct, last in owners if (config := struct.__struct_config__).tag_field == last]
    choices = tags or [str(choice) for struct, last in owners for choice in _literals(_field(struct, last))]
    return f"; choose {listed(choices, 'or')}" if choices else ""


def _owners(path: str, to: Any) -> list[tuple[type[msgspec.Struct], str]]:  # noqa: ANN401 - a type of any form
    """Return the structures that a path may lead to, each with the name of the field in it."""
    *sections, last = re.sub(r"\[.*?\]", "", path).split(".")
    structs = list(_structs(to))
    for section in sections:
        structs = [each for struct in structs for each in _structs(_field(struct, section))]
    return [(struct, last) for struct in structs]


def _field(struct: type[msgspec.Struct], name: str) -> Any:  # noqa: ANN401 - a type of any form
    return next((field.type for field in msgspec.structs.fields(struct) if field.encode_name == name), None)


def _literals(of: Any) -> Iterator[object]:  # noqa: ANN401 - a type of any form
    if get_origin(of) is Literal:
        yield from get_args(of)
    elif get_origin(of) is Annotated:
        yield from _literals(get_args(of)[0])
    elif get_origin(of) is not dict:
        for each in get_args(of):
            yield from _literals(each)
