"""The tables of commands, their arguments and options."""

from __future__ import annotations

import inspect
import itertools
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import typer

from fer_edge.cli import app
from fer_edge_device.config.load import option_name
from reference_tables.configuration import all_keys
from reference_tables.markdown import bounds, choices, code, lines, prose, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_GROUPS: Final = {
    "Train": ("train", "train-faces", "train-refiner", "ensemble", "recipes"),
    "Convert": ("convert", "evaluate", "evaluate-video", "inspect", "card"),
    "Run": ("run", "web", "config", "cameras", "history", "collect", "mqtt"),
    "Tag": ("predict", "tag", "report", "review"),
    "Measure": ("bench", "doctor"),
    "Service": ("service", "deploy", "fleet"),
}
_KINDS: Final = {int: "whole number", float: "number", str: "text", Path: "path"}


class _Command(NamedTuple):
    """A command.

    Attributes:
        name: its name, with those of the commands around it.
        help: its help text.
        parameters: its parameters, as typer has them.
        function: what it calls; its annotations say of which types the parameters are.
        children: the commands that may follow it.
    """

    name: str
    help: str
    parameters: list[Any]
    function: Callable[..., object]
    children: tuple[str, ...]


def command_tables() -> str:
    """Return all commands, grouped by the road."""
    root: Any = typer.main.get_command(app)
    grouped = [*itertools.chain(*_GROUPS.values())]
    if sorted(grouped) != sorted(root.commands):
        raise ValueError(f"each command must be in one group: {sorted(set(grouped) ^ set(root.commands))}")
    parts = []
    for title, names in _GROUPS.items():
        commands = [one for name in names for one in _walk(root.commands[name], f"fer-edge {name}")]
        rows = [(f"[{code(one.name)}](#{_anchor(one.name)})", prose(_paragraphs(one.help)[0])) for one in commands]
        parts += [f"## {title}\n", table(("command", "what it does"), rows), *map(_describe, commands)]
    return "\n".join(parts)


def root_table() -> str:
    """Return the options of `fer-edge` itself."""
    root: Any = typer.main.get_command(app)
    rows = [
        (_names(parameter), prose(parameter.help or ""))
        for parameter in root.params
        if parameter.param_type_name == "option"
    ]
    return table(("option", "meaning"), [*rows, ("`--help`", "Show the help of a command and exit.")])


def _walk(command: Any, name: str) -> Iterator[_Command]:  # noqa: ANN401 - typer may bring a click of its own
    children = getattr(command, "commands", {})
    yield _Command(name, command.help or "", command.params, command.callback, tuple(children))
    for child, inner in children.items():
        yield from _walk(inner, f"{name} {child}")


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _describe(command: _Command) -> str:
    paragraphs = [part for part in _paragraphs(command.help) if not part.startswith("Example: ")]
    examples = [line.removeprefix("Example: ") for line in command.help.splitlines() if line.startswith("Example: ")]
    if not examples:
        raise ValueError(f"{command.name} has no example")
    parts = [f"### {command.name} {{#{_anchor(command.name)}}}", *map(prose, paragraphs)]
    parts.append("\n".join(["```sh", *examples, "```"]))
    hints = typing.get_type_hints(command.function, include_extras=True)
    signature = inspect.signature(command.function).parameters
    rows = [_row(parameter, hints[parameter.name], signature[parameter.name]) for parameter in command.parameters]
    if command.name == "fer-edge run":
        keys = {option_name(key): f"key: [{code(key)}](configuration.md#{key})" for key in all_keys()}
        rows = [(name, value, lines(text, keys.get(name.split("`")[1], ""))) for name, value, text in rows]
    if rows:
        parts.append(table(("argument or option", "value", "meaning"), rows))
    if command.children:
        links = ", ".join(f"[{code(child)}](#{_anchor(f'{command.name} {child}')})" for child in command.children)
        parts.append(f"Further commands: {links}.")
    return "\n\n".join(parts) + "\n"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.replace("\b\n", "").split("\n\n")]


def _names(parameter: Any) -> str:  # noqa: ANN401 - see _walk
    if parameter.param_type_name == "argument":
        return code(f"{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}")
    return ", ".join(map(code, (*parameter.opts, *parameter.secondary_opts)))


def _row(parameter: Any, hint: Any, declared: inspect.Parameter) -> tuple[str, str, str]:  # noqa: ANN401 - see _walk
    if not parameter.help:
        raise ValueError(f"{parameter.name} has no help")
    value = _value(hint)
    if parameter.param_type_name == "option" and parameter.metavar:
        value = code(parameter.metavar)
    given = declared.default  # 0 is one, False and None are not
    default = (
        "" if given is None or given is False or given is inspect.Parameter.empty else f"default: {code(str(given))}"
    )
    return _names(parameter), lines(value, "*required*" if parameter.required else default), prose(parameter.help)


def _value(hint: Any) -> str:  # noqa: ANN401 - a type
    """Return what a parameter takes."""
    limits: Any = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, limits = hint.__origin__, hint.__metadata__[0]
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        (hint,) = [one for one in typing.get_args(hint) if one is not type(None)]
    if typing.get_origin(hint) is list:
        (hint,) = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        return choices(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return " ".join(_KINDS[one] for one in typing.get_args(hint))
    if hint is bool:
        return "flag"
    return bounds(_KINDS[hint], getattr(limits, "min", None), getattr(limits, "max", None))
