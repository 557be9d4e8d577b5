"""What is inside a ``.tflite`` file: its tensors, operators and cost."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from fer_edge.card import Card, model_bytes, read_card
from fer_edge.errors import InputError, ModelError
from fer_edge.runtime import Tensor, make_interpreter

if TYPE_CHECKING:
    from pathlib import Path


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output: shape, element type, and ``real = scale * (stored - zero_point)`` where it is quantised."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """What is inside a model file.

    Attributes:
        path: the file.
        sha256: of the file.
        bytes: its size.
        card: what it says of itself; None where it has no card.
        input: what it takes.
        output: what it gives.
        operators: how many there are of each kind.
        multiply_adds: of one invocation, in convolutions and dense layers.
        parameters: elements of all constant tensors of more than one element.
        integer_only: whether every tensor is of an integer type.
    """

    path: str
    sha256: str
    bytes: int
    card: Card | None
    input: TensorInfo
    output: TensorInfo
    operators: dict[str, int]
    multiply_adds: int
    parameters: int
    integer_only: bool


def inspect_model(path: Path) -> Inspection:
    """Look into a ``.tflite`` file, with a card or without.

    Raises:
        ModelError: the file is missing or damaged.
        InputError: the installed runtime does not bring the schema that this needs.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such model file")
    try:
        card = read_card(path)
    except ModelError:
        card = None
    schema = _schema()
    flatbuffer = model_bytes(path)
    interpreter = make_interpreter(flatbuffer, path)
    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    graph, opcodes = model.subgraphs[0], model.operatorCodes
    operators: Counter[str] = Counter()
    cost = 0
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    for operator in graph.operators:
        code = opcodes[operator.opcodeIndex]
        # Old files have the number in the first field, newer ones in the second.
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        operators[name] += 1
        cost += _multiply_adds(name, operator, graph.tensors)
    types = {value: name for name, value in vars(schema.TensorType).items() if not name.startswith("_")}
    written = {index for operator in graph.operators for index in operator.outputs} | set(graph.inputs)
    sizes = [
        math.prod(map(int, t.shape)) for i, t in enumerate(graph.tensors) if i not in written and t.shape is not None
    ]
    return Inspection(
        path=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        bytes=path.stat().st_size,
        card=card,
        input=_info(interpreter.get_input_details()[0]),
        output=_info(interpreter.get_output_details()[0]),
        operators=dict(operators.most_common()),
        multiply_adds=cost,
        parameters=sum(size for size in sizes if size > 1),
        integer_only=not any("FLOAT" in types[tensor.type] for tensor in graph.tensors),
    )


def _info(detail: dict[str, Any]) -> TensorInfo:
    tensor = Tensor.of(detail)
    return TensorInfo(tensor.shape, np.dtype(tensor.dtype).name, tensor.scale, tensor.zero_point)


def _schema() -> Any:  # noqa: ANN401 - the schema has no types
    try:
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - absent beside tflite-runtime
    except ImportError as error:
        raise InputError(
            "inspect reads files by the schema of ai-edge-litert, which is not installed; inspect on a 64-bit machine"
        ) from error
    return schema


def _multiply_adds(name: str, operator: Any, tensors: list[Any]) -> int:  # noqa: ANN401 - the schema has no types
    if name not in {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}:
        return 0
    weights = [int(n) for n in tensors[operator.inputs[1]].shape]
    outputs = math.prod(int(n) for n in tensors[operator.outputs[0]].shape)
    # Each output element takes one multiply-add for each weight that reaches it.
    return outputs * math.prod(weights[1:3] if name == "DEPTHWISE_CONV_2D" else weights[1:])
