"""The graph of a ``.tflite`` file; the package ai-edge-litert has the names of its operators and types."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fer_edge.errors import InputError, ModelError
from fer_edge.tflite.flatbuffer_reader import MAX_DIMENSIONS, FlatbufferError, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
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
_OPERATOR_CODES, _SUBGRAPHS, _BUFFERS, _METADATA = 1, 2, 4, 6  # fields of a model
_OMITTED: Final = -1  # in place of an optional input
_FULLY_CONNECTED: Final = 9  # of the schema's operators
_FLOAT32, _INT8 = 0, 9  # of the schema's element types


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
    """Read the first graph of a flatbuffer, whoever made it.

    Args:
        model: the flatbuffer.
        path: its file, for errors.

    Raises:
        InputError: the installed runtime does not include the schema.
        ModelError: the flatbuffer is damaged, or has an operator that the schema does not know.
    """
    schema = _schema()
    try:
        return _read_graph(model, path, _names(schema.BuiltinOperator), _names(schema.TensorType))
    except (FlatbufferError, IndexError) as error:
        reason = str(error) if isinstance(error, FlatbufferError) else "a number stands for nothing"
        raise ModelError(
            f"{path}: a runtime cannot load it, because it is damaged ({reason}); copy or make it again"
        ) from error


def multiplies_floats_by_output_scales(model: bytes) -> bool:
    """Return whether a dense layer multiplies floats by int8 weights that have a scale for each output.

    Unlike `read_graph`, this needs no schema, which tflite-runtime does not have.

    Args:
        model: the flatbuffer, which a runtime has loaded.
    """
    root = Table.root(model)
    graph = root.tables(_SUBGRAPHS)[0]
    kinds = [max(code.integer(3, "i"), code.integer(0, "b")) for code in root.tables(_OPERATOR_CODES)]
    tensors = graph.tables(0)
    for operator in graph.tables(3):
        if kinds[operator.integer(0, "I")] != _FULLY_CONNECTED:
            continue
        given, weights = (tensors[i] for i in operator.integers(1)[:2])
        quantization = weights.table(4)
        scales = quantization.length(2, 4) if quantization else 0
        if given.integer(1, "b") == _FLOAT32 and weights.integer(1, "b") == _INT8 and scales > 1:
            return True
    return False


def _read_graph(model: bytes, path: Path, kinds: dict[int, str], types: dict[int, str]) -> Graph:
    root = Table.root(model)
    graph = root.tables(_SUBGRAPHS)[0]
    # Whether each buffer holds elements: in itself or, in files of more than 2 GB, behind the flatbuffer.
    filled = [buffer.length(0, 1) > 0 or buffer.integer(1, "Q") > 1 for buffer in root.tables(_BUFFERS)]
    tensors = tuple(_read_tensor(tensor, filled, types) for tensor in graph.tables(0))
    codes = [
        # Old files have the number in the first field, newer ones in the fourth.
        (max(code.integer(3, "i"), code.integer(0, "b")), code.integer(2, "i", 1))
        for code in root.tables(_OPERATOR_CODES)
    ]
    operations = []
    for operator in graph.tables(3):
        number, version = codes[operator.integer(0, "I")]
        if number not in kinds:
            raise ModelError(f"{path}: operator {number} is newer than the installed runtime; upgrade the runtime")
        inputs = _select(tensors, [i for i in operator.integers(1) if i != _OMITTED])
        outputs = _select(tensors, operator.integers(2))
        cost = _multiply_adds(kinds[number], inputs, outputs)
        operations.append(
            Operation(kind=kinds[number], version=version, inputs=inputs, outputs=outputs, multiply_adds=cost)
        )
    return Graph(
        operations=tuple(operations),
        tensors=tensors,
        inputs=_select(tensors, graph.integers(1)),
        outputs=_select(tensors, graph.integers(2)),
        metadata=tuple(entry.text(0) for entry in root.tables(_METADATA)),
    )


def _select(tensors: tuple[GraphTensor, ...], indices: Sequence[int]) -> tuple[GraphTensor, ...]:
    if any(i < 0 for i in indices):
        raise IndexError
    return tuple(tensors[i] for i in indices)


def _read_tensor(tensor: Table, filled: list[bool], types: dict[int, str]) -> GraphTensor:
    shape = tensor.integers(0)
    if len(shape) > MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise FlatbufferError(f"a tensor of {len(shape)} dimensions, or of a negative size")
    number = tensor.integer(1, "b")
    if number not in types:
        raise FlatbufferError(f"elements of type {number}")
    dtype, quantization = types[number], tensor.table(4)
    return GraphTensor(
        name=tensor.text(3),
        shape=shape,
        dtype=dtype,
        bytes=-(-math.prod(shape) * _BITS.get(dtype, _DEFAULT_BITS) // 8),
        constant=filled[tensor.integer(2, "I")],
        quantized=quantization is not None and quantization.length(2, 4) > 0,
    )


def _multiply_adds(kind: str, inputs: tuple[GraphTensor, ...], outputs: tuple[GraphTensor, ...]) -> int:
    if kind not in _WEIGHTED or len(inputs) < 2 or not outputs:
        return 0
    weights = inputs[1].shape
    # Each output element needs one multiply-add for each weight that contributes to it.
    return math.prod(outputs[0].shape) * math.prod(weights[1:3] if kind == "DEPTHWISE_CONV_2D" else weights[1:])


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
