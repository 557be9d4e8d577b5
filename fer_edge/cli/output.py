"""Print results and warnings."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING, Final

from fer_edge.errors import one_line, printable
from fer_edge.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fer_edge.classification.metrics import Metrics

INTERRUPTED: Final = 130  # the exit status that a shell expects after Ctrl-C


def say(*lines: str, error: bool = False) -> None:
    """Print lines; control characters in the names of files, labels and models are escaped.

    Args:
        lines: the lines.
        error: whether they go to standard error.
    """
    for line in lines:
        print(one_line(line), file=sys.stderr if error else sys.stdout)


def warn(message: str) -> None:
    """Print a warning."""
    say(f"fer-edge: warning: {message}", error=True)


def command_line() -> str:
    """Return the command that makes the same model again, for its card: as it was typed, without ``--resume``."""
    return printable(shlex.join(["fer-edge", *(word for word in sys.argv[1:] if word != "--resume")]))


def commands_so_far(earlier: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the commands that made what a model learns from, each once, and this one."""
    return tuple(dict.fromkeys([*(command for commands in earlier for command in commands), command_line()]))


def version() -> str:
    """Return the version of the installed package."""
    import importlib.metadata

    return importlib.metadata.version("fer-edge")


def fields(value: object) -> dict[str, object]:
    """Return the fields of a structure as JSON values."""
    import msgspec

    fields: dict[str, object] = msgspec.to_builtins(value)
    return fields


def print_json(value: object, indent: int | None = 2) -> None:
    """Print a structure as JSON."""
    import json

    import msgspec

    # The standard library's encoder takes file names that are not UTF-8.
    print(json.dumps(msgspec.to_builtins(value), indent=indent))


def print_metrics(metrics: Metrics) -> None:
    """Print accuracy, the figures of each class, and the confusion matrix."""
    print(f"accuracy {metrics.accuracy:.2%} of {counted(metrics.faces, 'face')}", end="")
    print(f", macro F1 {metrics.macro_f1:.3f}, expected calibration error {metrics.ece:.3f}")
    wide = max(8, *map(len, metrics.classes)) + 2  # the card has checked that labels can be printed
    print(f"{'':<{wide}}{'precision':>9}{'recall':>8}{'F1':>8}{'faces':>7}")
    for label, one in metrics.classes.items():
        print(f"{label:<{wide}}{one.precision:>9.3f}{one.recall:>8.3f}{one.f1:>8.3f}{one.support:>7}")
    print("faces of each label (rows) by the label that they got (columns):")
    columns = [max(5, len(name)) + 1 for name in metrics.classes]
    print(" " * wide + "".join(f"{name:>{column}}" for name, column in zip(metrics.classes, columns, strict=True)))
    for label, row in zip(metrics.classes, metrics.confusion, strict=True):
        print(f"{label:<{wide}}" + "".join(f"{count:>{column}}" for count, column in zip(row, columns, strict=True)))


def open_in_browser(url: str) -> None:
    """Open a page in the user's browser, if there is a screen; a text browser would take over this terminal."""
    import webbrowser

    if sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        webbrowser.open(url)
