"""Convert a TensorFlow function of one image to a float ``.tflite``."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fer_edge.errors import InputError, ModelError, first_line
from fer_edge_convert.flatbuffer import run_all
from fer_edge_convert.graph_edit import with_signature, with_simple_activations, without_input_cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fer_edge_convert.formats.request import ReadOptions

TOLERANCE: Final = 1e-3  # of probabilities, between TensorFlow and what it was converted to
DEBUG: Final = "`fer-edge --debug convert ...` shows why"


def load() -> None:
    """Import TensorFlow."""
    with hide_output():
        import tensorflow  # noqa: F401, ICN001, PLC0415 - takes seconds, and is not needed for a .tflite


def convert_function(
    path: Path,
    function: Callable[[Any], Any],
    shape: tuple[int | None, ...],
    options: ReadOptions,
    dtype: str = "float32",
) -> bytes:
    """Convert a function of an image, and check the result against it.

    Args:
        path: the model, for errors.
        function: the function; takes a tensor of shape ``shape`` and returns one tensor or several.
        shape: shape of the image, with None for a dimension of any size; the first is the number of images.
        options: what the user says, such as the side of the images, where ``shape`` leaves it open.
        dtype: element type of the image.

    Returns:
        A ``.tflite`` that takes one image in float32, in the layout of ``shape``.

    Raises:
        ModelError: TensorFlow cannot convert it, or gives other outputs afterwards.
        InputError: the size is needed and was not given.
    """
    import tensorflow as tf  # noqa: PLC0415 - takes seconds

    fixed = (1, *fix_shape(path, shape, options))
    # On processors where TensorFlow does without oneDNN, its fused convolutions take no groups.
    tf.config.optimizer.set_experimental_options({"remapping": False})
    with hide_output():
        try:
            concrete = tf.function(function).get_concrete_function(tf.TensorSpec(fixed, dtype))
            # With anything else but the function, the converter would write a SavedModel first and read it again.
            converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], concrete)
            named = with_signature(
                bytes(converter.convert()),
                concrete.inputs[0].name.partition(":")[0],
                _name_outputs(concrete.structured_outputs, len(concrete.outputs)),
            )
            model = with_simple_activations(named)
            images = np.random.default_rng(0).uniform(0, 1, (4, *fixed[1:])).astype(np.float32)
            images[2:] *= 255  # of each range that models take
            if dtype != "float32":
                images = np.rint(images)
            originals = [concrete(tf.cast(image[None], dtype)) for image in images]
        except ModelError:  # of the function itself
            raise
        except Exception as error:  # TensorFlow has many ways to say that it cannot
            raise ModelError(f"{path}: TensorFlow cannot convert it to .tflite ({_reason(error)}); {DEBUG}") from error
    if dtype != "float32":
        model = without_input_cast(model)
    expected = [
        np.concatenate(list(map(np.asarray, each))) for each in zip(*map(tf.nest.flatten, originals), strict=True)
    ]
    if len({output.shape for output in expected}) == len(expected):  # otherwise outputs cannot be told apart by shape
        results = run_all(model, images)
        for output, other in zip(sorted(expected, key=lambda output: output.shape), results, strict=True):
            difference = float(np.abs(output - other).max() / max(np.abs(output).max(), 1.0))
            if not difference < TOLERANCE:
                raise ModelError(f"{path}: TensorFlow converted it to another model, {difference:.2g} apart; report it")
    return model


def _name_outputs(outputs: object, count: int) -> list[str]:
    """Return the names that TensorFlow gives the outputs of a function in a SavedModel."""
    return sorted(outputs) if isinstance(outputs, dict) else [f"output_{number}" for number in range(count)]


def fix_shape(path: Path, shape: tuple[int | None, ...], options: ReadOptions) -> tuple[int, ...]:
    """Return the shape of one image, with the size in place of rows and columns that are open.

    Raises:
        ModelError: it is not the shape of an image, or of several at a time.
        InputError: the size is needed and was not given.
    """
    if shape and shape[0] not in {None, 1}:
        raise ModelError(f"{path}: it takes {shape[0]} images at a time; save it for one image, or for any number")
    first_channels = len(shape) == 4 and shape[1] in {1, 3}
    if len(shape) not in {2, 3, 4} or (shape[-1] is None and not first_channels):
        raise ModelError(f"{path}: it takes {_spell(shape)}; a classifier takes images, [n, height, width, channels]")
    fixed = tuple(length if length is not None else options.size for length in shape[1:])
    if None in fixed:
        raise InputError(f"{path}: it takes images of any size: say which, {options.ask_for('--size', '48')}")
    return tuple(int(length) for length in fixed if length is not None)


def _spell(shape: tuple[int | None, ...]) -> str:
    return f"[{', '.join('n' if length is None else str(length) for length in shape)}]"


def _reason(error: Exception) -> str:
    """Return the line of TensorFlow's message that names the cause."""
    if unknown := re.search(r"TF Select ops: ([\w, ]+)", str(error)):
        return f"LiteRT has no operator for {unknown[1]}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "error:" in line or "Error" in line or "is neither a custom op" in line]
    return (named or lines or [first_line(error)])[-1].rpartition("error: ")[2][:200]


@contextlib.contextmanager
def hide_output() -> Iterator[None]:
    """Hide the output and warnings of TensorFlow and Keras."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(action="ignore"):
        yield
