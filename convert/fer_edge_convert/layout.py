"""Bring the input of a model into one layout: [1, height, width, channels], with one channel or three."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fer_edge.errors import ModelError
from fer_edge_convert import graph_edit

if TYPE_CHECKING:
    from pathlib import Path


def channels_last(path: Path, model: bytes, shape: tuple[int, ...]) -> tuple[bytes, tuple[int, int, int]]:
    """Return the model with its input in the usual layout, and height, width and channels.

    Args:
        path: the model's file, for errors.
        model: a float ``.tflite``.
        shape: shape of its input.

    Raises:
        ModelError: its input is not an image.
    """
    if shape[:1] != (1,) or not 2 <= len(shape) <= 4:
        raise _refusal(path, shape)
    if len(shape) == 2:  # flat: the rows of a square, one after the other
        for channels in (1, 3):
            side = math.isqrt(shape[1] // channels)
            if side >= 8 and side * side * channels == shape[1]:
                return graph_edit.with_input_shape(model, (1, side, side, channels)), (side, side, channels)
        raise _refusal(path, shape)
    if len(shape) == 3:
        _, height, width = shape
        return graph_edit.with_input_shape(model, (1, height, width, 1)), (height, width, 1)
    _, height, width, channels = shape
    if channels in {1, 3} and height not in {1, 3}:
        return model, (height, width, channels)
    if channels in {2, 4} and height > 4:
        return graph_edit.with_opaque_channel(model), (height, width, channels - 1)
    if height in {1, 3} and channels > 4:  # channels first
        return graph_edit.with_channels_last(model), (width, channels, height)
    raise _refusal(path, shape)


def _refusal(path: Path, shape: tuple[int, ...]) -> ModelError:
    return ModelError(
        f"{path}: it takes {list(shape)}; a classifier takes one image, [1, height, width, channels], with 1 to 4"
        " channels"
    )
