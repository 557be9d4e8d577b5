"""Choose the output that gives the expression, of a model with several."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING

from fer_edge.errors import InputError, ModelError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fer_edge_convert.formats.request import ReadOptions


def choose_output(path: Path, outputs: Mapping[str, tuple[int | None, ...]], options: ReadOptions) -> str:
    """Return the name of the output that gives the expression.

    Args:
        path: the model, for errors.
        outputs: shape of each output by its name.
        options: the user's choice, and how many labels there are.

    Raises:
        InputError: there are several, and neither ``options.output`` nor the number of labels tells which one.
        ModelError: it has no output.
    """
    if not outputs:
        raise ModelError(f"{path}: it has no output")
    names = list(outputs)
    spelled = ", ".join(f"{printable(name)} of {_count(shape)}" for name, shape in outputs.items())
    if options.output is not None:
        if options.output not in outputs:
            near = difflib.get_close_matches(options.output, names, 1)
            hint = f"; did you mean {printable(near[0])}?" if near else ""
            raise InputError(f"{path}: it has no output {options.output}, but {spelled}{hint}")
        return options.output
    if len(names) == 1:
        return names[0]
    fitting = [name for name, shape in outputs.items() if options.classes and _count(shape) == options.classes]
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(f"{path}: it has {len(names)} outputs ({spelled}); say which one is the expression: --output NAME")


def _count(shape: tuple[int | None, ...]) -> int:
    """Return the number of values for one image."""
    return math.prod(length or 1 for length in shape[1:])
