"""Print results, and say what ran."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fer_edge.classification.metrics import Metrics

INTERRUPTED: Final = 130  # what a shell expects of a program that Ctrl-C ended


def command_line() -> str:
    """The command line that makes a model anew, for its card: as it was typed, less what only goes on with a run."""
    from fer_edge.errors import printable

    return printable(shlex.join(["fer-edge", *(word for word in sys.argv[1:] if word != "--resume")]))


def commands_that_made(before: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The commands that made what a model learns from, each once, and this one."""
    return tuple(dict.fromkeys([*(one for some in before for one in some), command_line()]))


def version() -> str:
    """Of the installed package."""
    import importlib.metadata

    return importlib.metadata.version("fer-edge")


def fields(value: object) -> dict[str, object]:
    """A structure as what JSON has."""
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(value)
    return fields


def print_json(value: object, indent: int | None = 2) -> None:
    """Print a structure, of whatever it holds, as JSON."""
    import json

    import msgspec

    # The standard library's encoder, because it takes names of files that are not UTF-8.
    print(json.dumps(msgspec.to_builtins(value), indent=indent))


def print_metrics(metrics: Metrics) -> None:
    """Print accuracy, the figures of each class, and the confusion matrix."""
    print(f"accuracy {metrics.accuracy:.2%} of {metrics.faces} faces", end="")
    print(f", macro F1 {metrics.macro_f1:.3f}, expected calibration error {metrics.ece:.3f}")
    wide = max(8, *map(len, metrics.classes)) + 2
    print(f"{'':<{wide}}{'precision':>9}{'recall':>8}{'F1':>8}{'faces':>7}   predicted:", end="")
    print("".join(f"{name:>{wide}}" for name in metrics.classes))
    for (label, one), row in zip(metrics.classes.items(), metrics.confusion, strict=True):
        print(f"{label:<{wide}}{one.precision:>9.3f}{one.recall:>8.3f}{one.f1:>8.3f}{one.support:>7}", end="")
        print(" " * 13 + "".join(f"{count:>{wide}}" for count in row))
