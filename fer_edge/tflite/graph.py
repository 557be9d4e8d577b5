"""The graph inside a ``.tflite`` file, read by the schema that ai-edge-litert brings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fer_edge.errors import InputError, ModelError

if TYPE_CHECKING:
    from pathlib import Path

_WEIGHTED: Final = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_LEAF: Final = {"CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "matmul"}
_BITS: Final = {
    "FLOAT64": 64,
    "INT64": 64,
    "UINT64": 64,
    "FLOAT16": 16,
    "INT16": 16,
    "INT8": 8,
    "UINT8": 8,
    "BOOL": 8,
    "INT4": 4,
    "UINT4": 4,
}
_BITS_OF_OTHERS: Final = 32


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a graph.

    Attributes:
        name: by which quantisers know it.
        shape: its dimensions.
        dtype: type of its elements, as the schema calls it: ``INT8``, ``FLOAT32``, ...
        bytes: what its elements take.
        constant: whether it is stored in the file.
        quantised: whether its elements stand for real values by scale and zero point.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    constant: bool
    quantised: bool


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of a graph.

    Attributes:
        kind: such as ``CONV_2D``.
        version: of the operator, by which old runtimes tell what they do not know.
        inputs: what it takes, constants too; what is left out is not here.
        outputs: what it gives.
        multiply_adds: of one invocation; 0 for what is no convolution or dense layer.
    """

    kind: str
    version: int
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    multiply_adds: int

    @property
    def name(self) -> str:
        """The name of its first output, by which quantisers know it; empty where it gives nothing."""
        return self.outputs[0].name if self.outputs else ""

    @property
    def short_name(self) -> str:
        """The part of its name that says which layer it was: converters join the names of what they fuse."""
        parts = self.name.split(";")
        hint = _LEAF.get(self.kind, "")
        return next((part for part in parts if hint and hint in part.lower()), parts[0])

    @property
    def constant_bytes(self) -> int:
        """What its weights take."""
        return sum(node.bytes for node in self.inputs if node.constant)


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """What a model calculates.

    Attributes:
        operations: in the order in which they run.
        tensors: all, in the order of the file.
        inputs: of the model.
        outputs: of the model.
        metadata: names of the buffers that say something about the model.
    """

    operations: tuple[Operation, ...]
    tensors: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    metadata: tuple[str, ...]


def read_graph(model: bytes, where: Path) -> Graph:
    """Read the first graph of a flatbuffer that a runtime has loaded before.

    Raises:
        InputError: the installed runtime does not bring the schema that this needs.
        ModelError: it has an operator that the schema does not know.
    """
    schema = _schema()
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = parsed.subgraphs[0]
    kinds = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    tensors = tuple(_node(tensor, parsed.buffers, types) for tensor in graph.tensors)
    operations = []
    for operator in graph.operators:
        code = parsed.operatorCodes[operator.opcodeIndex]
        # Old files have the number in the first field, newer ones in the second.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number not in kinds:
            raise ModelError(f"{where}: operator {number} is newer than the runtime that is installed; upgrade it")
        inputs = tuple(tensors[i] for i in _indices(operator.inputs) if i >= 0)
        outputs = tuple(tensors[i] for i in _indices(operator.outputs))
        cost = _multiply_adds(kinds[number], inputs, outputs)
        operations.append(
            Operation(kind=kinds[number], version=code.version, inputs=inputs, outputs=outputs, multiply_adds=cost)
        )
    return Graph(
        operations=tuple(operations),
        tensors=tensors,
        inputs=tuple(tensors[i] for i in _indices(graph.inputs)),
        outputs=tuple(tensors[i] for i in _indices(graph.outputs)),
        metadata=tuple(entry.name.decode() for entry in parsed.metadata or []),
    )


def _node(tensor: Any, buffers: list[Any], types: dict[int, str]) -> Node:  # noqa: ANN401 - the schema has no types
    shape = tuple(_indices(tensor.shape))
    dtype = types[tensor.type]
    data, quantization = buffers[tensor.buffer].data, tensor.quantization
    return Node(
        name=(tensor.name or b"").decode(errors="replace"),
        shape=shape,
        dtype=dtype,
        bytes=-(-math.prod(shape) * _BITS.get(dtype, _BITS_OF_OTHERS) // 8),
        constant=data is not None and len(data) > 0,
        quantised=quantization is not None and quantization.scale is not None and len(quantization.scale) > 0,
    )


def _multiply_adds(kind: str, inputs: tuple[Node, ...], outputs: tuple[Node, ...]) -> int:
    if kind not in _WEIGHTED:
        return 0
    weights = inputs[1].shape
    # Each output element takes one multiply-add for each weight that reaches it.
    return math.prod(outputs[0].shape) * math.prod(weights[1:3] if kind == "DEPTHWISE_CONV_2D" else weights[1:])


def _indices(values: Any) -> list[int]:  # noqa: ANN401 - an array, a list or nothing
    return [] if values is None else [int(value) for value in values]


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _schema() -> Any:  # noqa: ANN401 - the schema has no types
    try:
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - absent beside tflite-runtime
    except ImportError as error:
        raise InputError(
            "models are read by the schema of ai-edge-litert, which is not installed; do this on a 64-bit machine"
        ) from error
    return schema
