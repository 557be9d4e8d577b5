"""Choose the output that gives the expression, of a model with several."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING

from fer_edge.classification.labels import FER2013
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
    counts = {name: _count(shape) for name, shape in outputs.items()}
    fitting = fitting_outputs(counts, options.classes)
    if len(fitting) == 1:
        return fitting[0]
    raise InputError(
        f"{path}: it has {len(names)} outputs ({spelled}); say which one is the expression,"
        f" {options.ask_for('--output', likely_output(counts, options.classes))}"
    )


def fitting_outputs(counts: Mapping[str, int | None], classes: int) -> list[str]:
    """Return the names of the outputs with as many values as there are labels.

    Args:
        counts: number of values of each output by its name; None if it is not known.
        classes: number of labels; 0 if it is not known.
    """
    return [name for name, count in counts.items() if classes and count == classes]


def likely_output(counts: Mapping[str, int | None], classes: int) -> str:
    """Return the name of the output to propose: one with as many values as labels, or as FER-2013 has, or the first."""
    fitting = fitting_outputs(counts, classes) or fitting_outputs(counts, len(FER2013))
    return (fitting or list(counts))[0]


def _count(shape: tuple[int | None, ...]) -> int:
    """Return the number of values for one image."""
    return math.prod(length or 1 for length in shape[1:])
