"""List the outputs of a model by its description alone, to ask for the right one before the model is loaded."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

from fer_edge.errors import ModelError
from fer_edge.modelcard.archive import model_bytes
from fer_edge.tflite.graph import read_graph
from fer_edge.utils.limits import JSON_BYTES
from fer_edge.utils.zip_reader import open_zip
from fer_edge_convert.formats.keras_files import read_description

if TYPE_CHECKING:
    from pathlib import Path

    from fer_edge_convert.formats.forms import Form
    from fer_edge_convert.formats.request import ReadOptions

Heads = dict[str, int | None]
"""Number of values of each output by its name; None where a description does not say it."""


def list_heads(path: Path, form: Form, options: ReadOptions) -> Heads:
    """Return the outputs of a model; empty if its description does not tell them.

    Args:
        path: the file, which has been checked; see `fer_edge_convert.formats.checks`.
        form: its format. Of a SavedModel or a program of PyTorch, nothing is known before it is loaded.
        options: what the user says about it.
    """
    heads: Heads = {}
    with contextlib.suppress(Exception):  # who reads the model says what is wrong with it
        if form == "tflite":
            heads = {one.name: math.prod(one.shape[1:]) for one in read_graph(model_bytes(path), path).outputs}
        elif form == "onnx":
            heads = _onnx_heads(path)
        elif form == "keras":
            with open_zip(path, ModelError) as archive:
                texts = {member.name: member for member in archive.members}
                heads = _keras_heads(json.loads(texts["config.json"].read(JSON_BYTES)))
        elif form in {"hdf5", "description"}:
            heads = _keras_heads(read_description(path, options))
    return heads


def _onnx_heads(path: Path) -> Heads:
    import onnx  # noqa: PLC0415 - an extra

    outputs = onnx.load(str(path), load_external_data=False).graph.output
    shapes = {one.name: [each.dim_value for each in one.type.tensor_type.shape.dim] for one in outputs}
    return {name: math.prod(shape[1:]) or None for name, shape in shapes.items()}


def _keras_heads(description: Any) -> Heads:  # noqa: ANN401 - JSON
    """Return the outputs of a model of Keras, which have the names of their layers; a Sequential names none."""
    config = description["config"]
    given = config["output_layers"]
    ends = [*given.values()] if isinstance(given, dict) else given
    # A single output may stand there without a list around it.
    names = [str(end[0]) for end in ends if isinstance(end, list)]
    units = {layer["config"]["name"]: layer["config"].get("units") for layer in config["layers"]}
    return {name: units.get(name) for name in names}
