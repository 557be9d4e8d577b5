"""Reword the errors of Typer, click and pydantic for people who know none of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from fer_edge.utils.words import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is wrong with a value, and how to say it. Typer checks values with click's words or, from 0.26 on, pydantic's.
_VALUES: Final = (
    (r"Input should be greater than or equal to (\S+)", r"must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"must be at most \1"),
    (r"(?:Input should be a valid integer|Unable to parse input string as an integer).*", "must be a whole number"),
    (r"Input should be a (?:valid|finite) number.*", "must be a number"),
    (r"Input is not a valid path", "must be a path"),
    (r"(.+) is not in the range x>=(\S+)", r"must be at least \2"),
    (r"(.+) is not in the range x<=(\S+)", r"must be at most \2"),
    (r"(.+) is not in the range (\S+)<=x<=(\S+)", r"must be from \2 to \3"),
    (r"(.+) is not a valid (?:int|integer)", "must be a whole number"),
    (r"(.+) is not a valid float", "must be a number"),
)
_QUOTED: Final = r"'(.*?)'"
# The whole message, where it is not about a value.
_USAGES: Final = (
    (r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", r"unexpected argument: \1"),
    (r"Option '?(\S+?)'? requires an argument", r"\1: give a value"),
    (r"Option '?(\S+?)'? requires (\d+) arguments", r"\1: give \2 values"),
    (r"Option '?(\S+?)'? does not take a value", r"\1: takes no value; leave it out"),
    (r"Missing command", "missing command"),
    (r"Missing (argument|option) (.+)", r"missing \1 \2"),
    (r"No such option:? '?(\S+?)'?", r"\1: no such option"),
    (
        r"No such option:? '?(\S+?)'?\.? \(?(?:Did you mean|Possible options:) '?([^\s,]+?)'?\??\)?",
        r"\1: no such option; did you mean \2?",
    ),
    (r"No such option:? '?(\S+?)'? \(?Possible options: (.*?)\)?", r"\1: no such option; similar ones are \2"),
)


def reword_usage_error(message: str) -> str:
    """Return the message of a usage error in plain words, in one line without a full stop.

    Args:
        message: what Typer or click says, such as ``Invalid value for '--runs': 0 is not in the range x>=1.``
    """
    line = " ".join(message.split()).rstrip(".")
    found = re.fullmatch(r"Invalid value for '?(.+?)'?: (.*)", line)
    if found:
        # click names an option by all of its forms: '--out' / '-o'.
        return f"{found[1].replace(chr(39), '')}: {_reword_value(found[2])}"
    if found := re.fullmatch(r"No such command '(.*?)'(?:\. Did you mean (.*)\?)?", line):
        advice = f"; did you mean {listed(re.findall(_QUOTED, found[2]), 'or')}?" if found[2] else ""
        return f"{found[1]}: no such command{advice}"
    reworded = _replace(line, _USAGES)
    return reworded.replace("'", "") if reworded.startswith("missing ") else reworded


def named_commands(root: Any, arguments: Sequence[str]) -> list[str]:  # noqa: ANN401 - of whichever click typer brings
    """Return the commands that a command line names, such as ``["mqtt", "forget"]``.

    The error itself does not always know them: one about an option without its value does not.

    Args:
        root: the command of the whole program.
        arguments: the command line without the program.
    """
    names: list[str] = []
    for argument in arguments:
        if argument.startswith("-"):
            continue
        root = getattr(root, "commands", {}).get(argument)
        if root is None:
            break
        names.append(argument)
    return names


def _reword_value(message: str) -> str:
    if found := re.fullmatch(r"(?:Value error, )?('.*') is not (?:one of )?('.+')", message):
        choices = re.findall(_QUOTED, found[2])
        return f"{found[1]} is unknown; choose {listed(choices, 'or')}"
    return _replace(message, _VALUES).removeprefix("Value error, ")


def _replace(text: str, replacements: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in replacements:
        if found := re.fullmatch(pattern, text):
            return found.expand(replacement)
    return text
