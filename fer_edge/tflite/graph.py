"""The graph of a ``.tflite`` file, read with the schema in the package ai-edge-litert."""

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
_DEFAULT_BITS: Final = 32


class GraphTensor(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor of a graph.

    Attributes:
        name: name of the tensor, which quantizers use to identify it.
        shape: dimensions.
        dtype: element type as the schema spells it: ``INT8``, ``FLOAT32``, ...
        bytes: size of the elements.
        constant: whether the elements are stored in the file.
        quantized: whether a scale and zero point give the real values of the elements.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    constant: bool
    quantized: bool


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of a graph.

    Attributes:
        kind: type of the operator, such as ``CONV_2D``.
        version: version of the operator; a runtime rejects versions that it does not know.
        inputs: input tensors, including constants, without omitted optional inputs.
        outputs: output tensors.
        multiply_adds: multiply-add operations of one invocation; 0 unless it is a convolution or dense layer.
    """

    kind: str
    version: int
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    multiply_adds: int

    @property
    def name(self) -> str:
        """Name of the first output, which quantizers use to identify the operator; empty without an output."""
        return self.outputs[0].name if self.outputs else ""

    @property
    def short_name(self) -> str:
        """The part of the name that names the layer; converters join the names of the operators that they fuse."""
        parts = self.name.split(";")
        hint = _LEAF.get(self.kind, "")
        return next((part for part in parts if hint and hint in part.lower()), parts[0])

    @property
    def constant_bytes(self) -> int:
        """Size of the weights, in bytes."""
        return sum(tensor.bytes for tensor in self.inputs if tensor.constant)


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """The computation of a model.

    Attributes:
        operations: operators in the order of execution.
        tensors: all tensors in the order of the file.
        inputs: inputs of the model.
        outputs: outputs of the model.
        metadata: names of the metadata buffers.
    """

    operations: tuple[Operation, ...]
    tensors: tuple[GraphTensor, ...]
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    metadata: tuple[str, ...]


def read_graph(model: bytes, path: Path) -> Graph:
    """Read the first graph of a flatbuffer.

    Load the flatbuffer with a runtime first, because this function does not check whether it is damaged.

    Args:
        model: the flatbuffer.
        path: its file, for errors.

    Raises:
        InputError: the installed runtime does not include the schema.
        ModelError: the graph has an operator that the schema does not know.
    """
    schema = _schema()
    parsed = schema.ModelT.InitFromPackedBuf(model, 0)
    graph = parsed.subgraphs[0]
    kinds = _names(schema.BuiltinOperator)
    types = _names(schema.TensorType)
    tensors = tuple(_read_tensor(tensor, parsed.buffers, types) for tensor in graph.tensors)
    operations = []
    for operator in graph.operators:
        code = parsed.operatorCodes[operator.opcodeIndex]
        # Old files have the number in `deprecatedBuiltinCode`, newer ones in `builtinCode`.
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number not in kinds:
            raise ModelError(f"{path}: operator {number} is newer than the installed runtime; upgrade the runtime")
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


def _read_tensor(tensor: Any, buffers: list[Any], types: dict[int, str]) -> GraphTensor:  # noqa: ANN401 - the schema has no types
    shape = tuple(_indices(tensor.shape))
    dtype = types[tensor.type]
    data, quantization = buffers[tensor.buffer].data, tensor.quantization
    return GraphTensor(
        name=(tensor.name or b"").decode(errors="replace"),
        shape=shape,
        dtype=dtype,
        bytes=-(-math.prod(shape) * _BITS.get(dtype, _DEFAULT_BITS) // 8),
        constant=data is not None and len(data) > 0,
        quantized=quantization is not None and quantization.scale is not None and len(quantization.scale) > 0,
    )


def _multiply_adds(kind: str, inputs: tuple[GraphTensor, ...], outputs: tuple[GraphTensor, ...]) -> int:
    if kind not in _WEIGHTED:
        return 0
    weights = inputs[1].shape
    # Each output element needs one multiply-add for each weight that contributes to it.
    return math.prod(outputs[0].shape) * math.prod(weights[1:3] if kind == "DEPTHWISE_CONV_2D" else weights[1:])


def _indices(values: Any) -> list[int]:  # noqa: ANN401 - an array, a list or nothing
    return [] if values is None else [int(value) for value in values]


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}


def _schema() -> Any:  # noqa: ANN401 - the schema has no types
    try:
        from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - not part of tflite-runtime
    except ImportError as error:
        raise InputError(
            "reading a model's graph needs the package ai-edge-litert, which is not installed; run this on a 64-bit"
            " machine"
        ) from error
    return schema
